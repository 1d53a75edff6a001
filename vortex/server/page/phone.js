// The QR code with which a phone opens the page.

import { find } from "./dom.js";
import { getJson } from "./server.js";
import { t } from "./text.js";

export async function showPhoneCode() {
  const code = find("#phone-code");
  code.hidden = true;
  find("#phone-box").showModal();
  try {
    const { image, address } = await getJson("/v1/phone");
    code.src = image;
    code.hidden = false;
    // Without the key, which only the code has.
    find("#phone-status").textContent = t("phone_how", { address: address.split("#")[0] });
  } catch (error) {
    find("#phone-status").textContent = error.status === 409 ? t("phone_local") : error.message;
  }
}
