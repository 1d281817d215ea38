/** The form of a key that a header can carry. */
export const keyPattern = /^[!-~]([ -~]*[!-~])?$/;
