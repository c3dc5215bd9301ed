// Calls an example as the platform would. Arguments: the example's file, and as JSON what it is called with:
// { payload, httpError? }. With httpError the work fails with that status.

import { pathToFileURL } from 'node:url';

const [file, text] = process.argv.slice(2);
const { payload, httpError } = JSON.parse(text);

globalThis.answers = [];
globalThis.incomingPayload = payload;
globalThis.doTheWork = async () => {
  if (httpError) throw Object.assign(new Error(`HTTP ${httpError}`), { httpStatus: httpError });
};
globalThis.isHttp = (error, status) => error.httpStatus === status;

const example = await import(pathToFileURL(file));
const result = example.taskRunner ? await example.taskRunner(payload) : undefined;
process.stdout.write(JSON.stringify({ result, answers: globalThis.answers }));
