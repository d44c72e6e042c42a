// The component outside wasmtime: transpiled to JavaScript by jco, run by Node.
//
// What wasmtime alone takes for granted - an import that only our host gives, a stream used in a way that
// only its HTTP allows - goes unnoticed until somebody embeds the component elsewhere.
//
//   node test.mjs <component.wasm> <empty directory> < backend-block.json
//
// The bucket holds a state in the workspace `kept`. One line is printed for each thing that held;
// tests/tests/jco.rs starts this, knows what lies in the store, and judges both.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { transpile } from '@bytecodealliance/jco';
import { WASIShim } from '@bytecodealliance/preview2-shim/instantiation';

const [component, directory] = process.argv.slice(2);
const block = JSON.parse(readFileSync(0, 'utf8'));
const reported = [];

const { instantiate, imports } = await transpiled();
assert.deepEqual(imports.filter((name) => /^wasi:(filesystem|sockets)\b/.test(name)), []);
const instance = await instantiate(undefined, { ...wasi(), ...surroundings() });
const backend = instance['cofferdam:state-backend/state-store@0.1.0'];
console.log('instantiated without files and sockets');

schema();
validate();
explain();
const store = open();
read(store);
lock(store);
write(store);
assert.deepEqual(reported, [], 'nothing to warn of');
store[Symbol.dispose]();

/** The component as a JavaScript module, and the names of its imports. */
async function transpiled() {
  const { files, imports } = await transpile(await readFile(component), {
    name: 'backend',
    instantiation: 'async',
  });
  for (const [name, bytes] of Object.entries(files)) {
    await mkdir(dirname(join(directory, name)), { recursive: true });
    await writeFile(join(directory, name), bytes);
  }
  await writeFile(join(directory, 'package.json'), '{ "type": "module" }');
  const module = await import(pathToFileURL(join(directory, 'backend.js')));
  return { instantiate: module.instantiate, imports };
}

/** What the component may use of the machine: no variable, no argument, no file, no socket. */
function wasi() {
  const shim = new WASIShim({ sandbox: { env: {}, args: [], preopens: {} } }).getImportObject();
  const granted = ([name]) => !/^wasi:(filesystem|sockets)\b/.test(name);
  return Object.fromEntries(Object.entries(shim).filter(granted));
}

/** The contract's own import, from a host that offers nothing. */
function surroundings() {
  const denied = () => {
    throw { tag: 'denied' };
  };
  return {
    'cofferdam:state-backend/surroundings': {
      credentials: denied,
      variable: denied,
      readFile: denied,
      replaceFile: denied,
      run: denied,
      report: (diagnostic) => reported.push(diagnostic),
    },
  };
}

function schema() {
  const rows = JSON.parse(backend.schema());
  const required = rows.filter((row) => row.required).map((row) => row.name);
  assert.ok(required.includes('bucket') && required.includes('key'), `required: ${required}`);
  console.log('schema: bucket and key are required');
}

function validate() {
  assert.deepEqual(backend.validate(JSON.stringify(block)), []);
  console.log('validate: the good block is good');

  const { bucket, ...bad } = { ...block, use_lockfiles: true };
  const complaints = backend.validate(JSON.stringify(bad)).filter(({ severity }) => severity === 'error');
  const attributes = complaints.map(({ attribute }) => attribute).sort();
  assert.deepEqual(attributes, ['bucket', 'use_lockfiles'], JSON.stringify(complaints));
  for (const { summary } of complaints) {
    assert.match(summary, /\S/);
  }
  console.log('validate: the bad block lacks bucket and knows no use_lockfiles');
}

function explain() {
  const text = backend.explain(JSON.stringify(block));
  assert.equal(typeof JSON.parse(text), 'object');
  assert.ok(text.includes(block.bucket) && text.includes(block.endpoints.s3), text);
  assert.ok(!text.includes(block.secret_key), 'the secret is not told');
  const complaints = failure(() => backend.explain('{}'));
  assert.ok(complaints.some(({ attribute }) => attribute === 'bucket'), JSON.stringify(complaints));
  console.log('explain: bucket and endpoint, not the secret');
}

function open() {
  const options = { fence: 'required', callBudget: 30_000, maxState: 16n << 20n };
  const { store, warnings } = backend.Store.open(JSON.stringify(block), options);
  assert.deepEqual(warnings, []);
  return store;
}

function read(store) {
  assert.deepEqual(store.read('default', undefined), { tag: 'absent' });
  console.log('read: default is absent');

  const reading = store.read('kept', undefined);
  assert.equal(reading.tag, 'state');
  const { bytes, revision } = reading.val;
  console.log(`read: kept holds ${bytes.length} bytes, SHA-256 ${sha256(bytes).toString('hex')}`);
  assert.deepEqual(store.read('kept', revision), { tag: 'unchanged' });
  console.log('read: kept is unchanged');
  assert.deepEqual(store.workspaces(), ['default', 'kept']);
}

function lock(store) {
  const held = store.lock('default', lockInfo('first'));
  const locked = failure(() => store.lock('default', lockInfo('second')));
  assert.equal(locked.code, 'locked', locked.message);
  assert.deepEqual(locked.holders.map(({ info }) => info?.id), ['first']);
  assert.deepEqual(store.holders('default').map(({ info }) => info?.who), ['jco@node']);
  store.unlock('default', { tag: 'held', val: held });
  assert.deepEqual(store.holders('default'), []);
  const gone = failure(() => store.unlock('default', { tag: 'held', val: held }));
  assert.equal(gone.code, 'lock-mismatch', gone.message);
  console.log('lock: taken, kept from another, released once');
}

function write(store) {
  const held = store.lock('default', lockInfo('writer'));
  const bytes = new TextEncoder().encode('{"serial": 1, "written": "by node"}');
  const options = (expect) => ({ expect, lock: held, sha256: sha256(bytes) });
  const revision = store.write('default', bytes, options({ tag: 'absent' }));
  const fenced = failure(() => store.write('default', bytes, options({ tag: 'absent' })));
  assert.equal(fenced.code, 'state-changed', fenced.message);
  assert.equal(fenced.outcome, 'not-done');
  store.write('default', bytes, options({ tag: 'revision', val: revision }));
  store.unlock('default', { tag: 'id', val: held.id });
  console.log('write: stored, and fenced off a second time');
}

/** What a call failed with: jco throws the error side of a result as the payload of an `Error`. */
function failure(call) {
  try {
    call();
  } catch (error) {
    if (error.payload === undefined) throw error;
    return error.payload;
  }
  assert.fail(`${call} succeeded`);
}

function lockInfo(id) {
  return {
    id,
    operation: 'OperationTypeApply',
    info: '',
    who: 'jco@node',
    version: '0.1.0',
    created: new Date().toISOString(),
    path: '',
  };
}

function sha256(bytes) {
  return createHash('sha256').update(bytes).digest();
}
