// What comes from the kernel as bytes.
const copied = (view) => view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);

export const floats = (view) => new Float32Array(copied(view));
export const integers = (view) => new Uint32Array(copied(view));
