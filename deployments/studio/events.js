/* Server-sent events out of the body of a fetch, which EventSource cannot do for a POST. */

/* A byte stream -> {event, data}, data parsed as JSON. Stopping to read closes the connection. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + value.replaceAll("\r", "")).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const event = parse(block);
        if (event.data) yield { event: event.event ?? "message", data: JSON.parse(event.data) };
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // it may be closed already
  }
}

function parse(block) {
  const fields = {};
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon <= 0) continue; // a comment keeps the connection open
    const name = line.slice(0, colon);
    const value = line.slice(colon + 1).replace(/^ /, "");
    fields[name] = name in fields ? `${fields[name]}\n${value}` : value;
  }
  return fields;
}
