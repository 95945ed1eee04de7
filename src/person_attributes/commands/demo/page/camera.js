// Takes a photograph with the camera.

import { find } from "./dom.js";

/**
 * Opens the dialog of the camera.
 *
 * @param {Function} use Receives the photograph as a file.
 */
export async function openCamera(use) {
  const [dialog, video, denied] = ["dialog", "video", "denied"].map(find);
  denied.hidden = true;
  find("take").disabled = true;
  dialog.showModal();
  let stream;
  dialog.onclose = () => stream?.getTracks().forEach((track) => track.stop());
  find("cancel").onclick = () => dialog.close();
  find("take").onclick = async () => {
    use(await capture(video));
    dialog.close();
  };
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: true });
    video.srcObject = stream;
    await video.play();
    find("take").disabled = false;
    if (!dialog.open) dialog.onclose();
  } catch (error) {
    denied.hidden = false;
    denied.textContent = `The camera cannot be used: ${error.message}. Allow it in the browser.`;
  }
}

async function capture(video) {
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 });
  return new File([blob], "camera.jpg", { type: blob.type });
}
