"""What runs behind the ingress, as plain classes: `deployments.app` adds Ray Serve around them."""
