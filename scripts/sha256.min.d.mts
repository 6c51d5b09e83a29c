/** SHA-256 in hexadecimal digits. */
export function sha256(content: Uint8Array): string;
