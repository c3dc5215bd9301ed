// Stands in for the module that Forge gives an app: it posts to the service instead, and nothing else.

async function updateTaskStatus(request) {
  const response = await fetch(`${process.env.TASKLATCH_API_URL}/forge/updateTaskStatus`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${process.env.TASKLATCH_TOKEN}` },
    body: JSON.stringify(request),
  });
  const answer = await response.json();
  globalThis.answers.push({ httpStatus: response.status, ...answer });
  return answer;
}

export const graph = { updateTaskStatus };
export const types = {};
