// What {{name}} answers: requests and responses are those of the web, which Node.js has too.

// A longer body is answered with 413.
const MOST_BODY_BYTES = 1 << 20;

/** The whole service: a Request in, a Response out. */
export async function handle(request) {
  const { pathname } = new URL(request.url);
  const is = (...methods) => methods.includes(request.method);
  switch (pathname) {
    case '/':
      return is('GET', 'HEAD') ? text(200, 'Hello from {{name}}\n') : text(405, 'only GET and HEAD\n');
    case '/echo':
      return is('POST') ? echo(request) : text(405, 'only POST\n');
    default:
      return text(404, `nothing at ${pathname}\n`);
  }
}

async function echo(request) {
  const body = await request.arrayBuffer();
  if (body.byteLength > MOST_BODY_BYTES) return text(413, 'the body is too long\n');
  return new Response(body, { headers: { 'content-type': 'application/octet-stream' } });
}

function text(status, body) {
  return new Response(body, { status, headers: { 'content-type': 'text/plain; charset=utf-8' } });
}
