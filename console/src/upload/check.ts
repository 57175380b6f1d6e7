// What a file is, before it is sent: a first look that says early what the server would say late. The server
// has the last word, so only what is certain is a problem here.

export const HEAD_BYTES = 1_024;
// TANDA_FILE_BYTES_MAX by default.
export const FILE_BYTES_MAX = 4 * 1024 ** 3;

export type ProblemCode = "empty_file" | "unsupported_type" | "type_mismatch" | "too_large" | "duplicate" | "unreadable";
type Family = "xml" | "pdf" | "image" | "csv";

const FAMILIES: Record<string, Family[]> = {
  xml: ["xml"], pdf: ["pdf"], csv: ["csv"], tsv: ["csv"], tab: ["csv"], txt: ["csv", "xml"],
  jpg: ["image"], jpeg: ["image"], jpe: ["image"], jfif: ["image"], png: ["image"], gif: ["image"], webp: ["image"],
  bmp: ["image"], dib: ["image"], tif: ["image"], tiff: ["image"],
};
const IMAGES = ["\xff\xd8\xff", "\x89PNG\r\n\x1a\n", "GIF87a", "GIF89a", "BM", "II*\0", "MM\0*"];
// Well-known formats that we take none of.
const FOREIGN = ["PK\x03\x04", "PK\x05\x06", "\x7fELF", "MZ", "Rar!", "7z\xbc\xaf", "\x1f\x8b", "\xd0\xcf\x11\xe0", "%!PS", "\0\0\0\x18ftyp", "\0\0\0 ftyp", "ID3"];

export function check(name: string, bytes: number, head: Uint8Array): ProblemCode | null {
  if (bytes === 0) return "empty_file";
  if (bytes > FILE_BYTES_MAX) return "too_large";
  const extension = name.includes(".") ? name.slice(name.lastIndexOf(".") + 1).toLowerCase() : "";
  const named = FAMILIES[extension];
  if (extension && !named) return "unsupported_type";
  const seen = familyOf(head);
  if (seen === "foreign") return named ? "type_mismatch" : "unsupported_type";
  if (named && seen && !named.includes(seen)) return "type_mismatch";
  return null;
}

// The family of these first bytes, "foreign" for a known other format, null where they do not tell for certain.
function familyOf(head: Uint8Array): Family | "foreign" | null {
  const text = String.fromCharCode(...head.subarray(0, HEAD_BYTES));
  if (IMAGES.some((magic) => text.startsWith(magic)) || (text.startsWith("RIFF") && text.slice(8, 12) === "WEBP")) return "image";
  if (text.includes("%PDF-")) return "pdf";
  if (FOREIGN.some((magic) => text.startsWith(magic))) return "foreign";
  const isWide = text.startsWith("\xff\xfe") || text.startsWith("\xfe\xff");
  if (isWide) return null;
  const plain = text.replace(/^\xef\xbb\xbf/, "").trimStart();
  if (plain.startsWith("<")) return /^<!doctype html|^<html/i.test(plain) ? "foreign" : "xml";
  return text.includes("\0") ? "foreign" : "csv";
}
