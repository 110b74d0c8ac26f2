// An HTTP handler in JavaScript, as a service worker is one: answers with what it was asked.
addEventListener('fetch', (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const url = new URL(request.url);
  const body = await request.text();
  const told = {
    language: 'javascript',
    path: url.pathname + url.search,
    bytes: body.length,
    reversed: [...body.slice(0, 32)].reverse().join(''),
  };
  return new Response(JSON.stringify(told), {
    headers: { 'content-type': 'application/json' },
  });
}
