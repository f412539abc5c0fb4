// Runs in the audio thread and passes on each block of the microphone's samples.
registerProcessor("tap", class extends AudioWorkletProcessor {
  process([channels]) {
    if (channels[0]) this.port.postMessage(channels[0].slice());
    return true;
  }
});
