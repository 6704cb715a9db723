// The sign-in link: a person's browser runs this and posts at once; a mail scanner's look at the page changes nothing.
export function submitNow(form) {
  form.requestSubmit();
}
