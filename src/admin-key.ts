/** Of a key that a header can carry. */
export const keyPattern = /^[!-~]([ -~]*[!-~])?$/;
