/** The server's JSON answer.   Throws: Error with the server's message or "no answer"; AbortError. */
export async function ask(path, options) {
  let answer;
  try {
    const response = await fetch(path, options);
    answer = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("no answer from the server; is it still running?");
  }
  if (answer.error) throw new Error(answer.error);
  return answer;
}
