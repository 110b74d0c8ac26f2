// Where the engine asks: an event for each request, as in a service worker.
import { handle } from './service.js';

addEventListener('fetch', (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const response = await handle(request);
  // One line to the pod's log.
  console.log(`${request.method} ${new URL(request.url).pathname} ${response.status}`);
  return response;
}
