// Records the microphone as 16-bit WAV, which the server reads without a codec.

/**
 * Record until the returned function is called or `maxSeconds` are reached.
 * onTime(seconds): called repeatedly.   onEnd(Blob): called once with the recording.
 */
export async function record(maxSeconds, onTime, onEnd) {
  // A browser's processing for calls would change the embedding
  const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const stream = await navigator.mediaDevices.getUserMedia({ audio });
  const context = new AudioContext();
  const most = Math.floor(maxSeconds * context.sampleRate);
  const blocks = [];
  let length = 0;
  let running = true;

  function close() {
    running = false;
    stream.getTracks().forEach((track) => track.stop());
    context.close();
  }
  function stop() {
    if (!running) return;
    close();
    onEnd(wav(blocks, Math.min(length, most), context.sampleRate));
  }
  function keep({ data }) {
    if (!running) return;
    blocks.push(data);
    length += data.length;
    onTime(length / context.sampleRate);
    if (length >= most) stop();
  }
  try {
    await context.audioWorklet.addModule("tap.js");
    const tap = new AudioWorkletNode(context, "tap", { numberOfOutputs: 0 });
    tap.port.onmessage = keep;
    context.createMediaStreamSource(stream).connect(tap);
    context.resume(); // not awaited: the caller gets `stop` before the first block arrives
  } catch (error) { // do not leave the microphone open
    close();
    throw error;
  }
  return stop;
}

/** A WAV file of the first `length` samples in blocks of floats. */
function wav(blocks, length, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * length));
  const text = (place, word) => [...word].forEach((c, i) => view.setUint8(place + i, c.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); // bytes of the format
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * length, true);
  let place = 0;
  for (const block of blocks) {
    for (const x of block) {
      if (place === length) break;
      view.setInt16(44 + 2 * place++, Math.round(32767 * Math.max(-1, Math.min(1, x))), true);
    }
  }
  return new Blob([view], { type: "audio/wav" });
}
