import assert from 'node:assert';
import { test } from 'node:test';

import { handle } from './service.js';

const cases = [
  ['GET', '/', undefined, 200, 'Hello from {{name}}\n'],
  ['POST', '/echo', 'there and back', 200, 'there and back'],
  ['PUT', '/echo', '', 405, 'only POST\n'],
  ['GET', '/nowhere', undefined, 404, 'nothing at /nowhere\n'],
];

for (const [method, path, body, status, expected] of cases) {
  test(`${method} ${path}`, async () => {
    const response = await handle(new Request(`http://{{name}}${path}`, { method, body }));
    assert.equal(response.status, status);
    assert.equal(await response.text(), expected);
  });
}
