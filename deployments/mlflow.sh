#!/usr/bin/env bash
# MLflow on the head of a cluster: bash deployments/mlflow.sh s3://BUCKET
#
# Runs and identities are in PostgreSQL where ~/mlflow.env says so, a file that only you can read and no project has:
#   MLFLOW_BACKEND_STORE_URI=postgresql://USER:PASSWORD@HOST/DATABASE
# Without it they are in SQLite, ~/mlflow.db, of which S3 has a copy that a new head starts from.
set -euo pipefail

bucket=${1:?give the bucket, s3://NAME}
port=${MLFLOW_PORT:-5000}

if (: < "/dev/tcp/127.0.0.1/$port") 2> /dev/null; then
    exit # it runs: this is a restart of Ray alone
fi
if [ -f ~/mlflow.env ]; then
    set -a
    . ~/mlflow.env
    set +a
fi
if [ -z "${MLFLOW_BACKEND_STORE_URI:-}" ]; then
    export MLFLOW_BACKEND_STORE_URI=sqlite:///$HOME/mlflow.db
    keep=(python -m deployments.keep_database --database ~/mlflow.db --copy "$bucket/mlflow.db")
    "${keep[@]}" --restore true
    nohup "${keep[@]}" > ~/keep_database.log 2>&1 &
fi
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false # eight processes that nothing here uses
nohup mlflow server --host "${MLFLOW_HOST:-0.0.0.0}" --port "$port" --workers 2 \
    --artifacts-destination "$bucket/mlflow" > ~/mlflow.log 2>&1 &
