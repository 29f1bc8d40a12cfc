/** The page that a person sees behind an upload URL. Self-contained, and a plain form where there is no JavaScript. */
import { createHash } from 'node:crypto'

import type { HeaderList } from '../../shared/frames/frames.ts'

/** What the form tells its user. */
export interface UploadPageFacts {
  readonly serverId: string
  readonly sessionId: string
  readonly maxFileBytes: number
  readonly requireSha256: boolean
  readonly expiresAtSeconds: number
}

/** One stored file, for the page that confirms it. */
export interface UploadedFile {
  readonly filename: string
  readonly sizeBytes: number
  readonly handle: string
}

const STYLE = `body{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:2rem auto;padding:0 1rem}
label{display:block;margin-top:1rem;font-weight:600}input{margin:.25rem 0;max-width:100%}
input[type=text]{width:100%;font-family:monospace}button{margin-top:1rem;padding:.5rem 1.5rem;font:inherit}
dt{font-weight:600}dd{margin:0 0 .5rem}code{overflow-wrap:anywhere}[role=alert]{color:#a00000}
@media(prefers-color-scheme:dark){body{background:#181818;color:#eee}[role=alert]{color:#ff9a9a}}`

/** Digests where the form asks for them: the text field, which is for those without JavaScript, gives way to hidden ones. */
const SCRIPT = `const form=document.querySelector('form[data-digest]');
if(form&&globalThis.crypto&&crypto.subtle){const files=form.elements.namedItem('file');
const manual=document.getElementById('manual');const status=document.getElementById('status');
files.multiple=true;manual.remove();
form.addEventListener('submit',async(event)=>{event.preventDefault();
try{form.querySelector('button').disabled=true;form.querySelectorAll('input[type=hidden]').forEach((old)=>old.remove());
for(const file of files.files){status.textContent='Computing the checksum of '+file.name;
const bytes=new Uint8Array(await crypto.subtle.digest('SHA-256',await file.arrayBuffer()));
const field=document.createElement('input');field.type='hidden';field.name='sha256';
field.value=Array.from(bytes,(byte)=>byte.toString(16).padStart(2,'0')).join('');form.append(field)}
status.textContent='Uploading';form.submit()}
catch(error){form.querySelector('button').disabled=false;status.textContent='The files could not be read: '+error.message}})}`

const CSP = [
  "default-src 'none'",
  `style-src '${sourceHash(STYLE)}'`,
  `script-src '${sourceHash(SCRIPT)}'`,
  "form-action 'self'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join('; ')

/** The URL is a credential: it must not be cached, framed, or told to other sites. */
export const PAGE_HEADERS: HeaderList = [
  'content-type',
  'text/html; charset=utf-8',
  'content-security-policy',
  CSP,
  'cache-control',
  'no-store',
  'referrer-policy',
  'no-referrer',
  'x-content-type-options',
  'nosniff',
  'x-frame-options',
  'DENY',
]

/** The form. It posts to its own URL, which holds the credential. */
export function renderUploadForm(facts: UploadPageFacts): string {
  const digest = facts.requireSha256
    ? `<div id="manual"><label for="sha256">SHA-256 checksum of the file</label>
<input type="text" id="sha256" name="sha256" required pattern="[0-9a-fA-F]{64}" autocomplete="off" aria-describedby="sha256-hint">
<p id="sha256-hint">64 hexadecimal digits, as printed by <code>sha256sum</code>.</p></div>`
    : ''
  const expiry = new Date(facts.expiresAtSeconds * 1000).toISOString().replace('.000Z', ' UTC')
  return page(
    'Upload files',
    `<p>Files that you send here can be used by tools of one session only.</p>
<dl><dt>Server</dt><dd>${escapeHtml(facts.serverId)}</dd>
<dt>Session</dt><dd><code>${escapeHtml(facts.sessionId.slice(0, 8))}…</code></dd>
<dt>Size limit</dt><dd>${formatBytes(facts.maxFileBytes)} per file</dd>
<dt>Valid until</dt><dd><time datetime="${expiry.replace(' UTC', 'Z')}">${expiry.replace('T', ' ')}</time>, for one upload</dd></dl>
<form method="post" enctype="multipart/form-data"${facts.requireSha256 ? ' data-digest' : ''}>
<label for="file">${facts.requireSha256 ? 'File' : 'Files'}</label>
<input type="file" id="file" name="file" required${facts.requireSha256 ? '' : ' multiple'}>
${digest}<button type="submit">Upload</button>
<p id="status" role="status"></p></form>`,
  )
}

/** What was stored. */
export function renderUploaded(files: readonly UploadedFile[]): string {
  const items = files.map(
    (file) =>
      `<li>${escapeHtml(file.filename)} (${formatBytes(file.sizeBytes)})<br><code>${escapeHtml(file.handle)}</code></li>`,
  )
  return page('Upload complete', `<p>You can close this page.</p><ul>${items.join('')}</ul>`)
}

/** Why nothing was stored. */
export function renderUploadError(code: string, detail: string): string {
  return page(
    'Upload failed',
    `<p role="alert">${escapeHtml(detail)}</p><p><code>${escapeHtml(code)}</code></p>`,
  )
}

function page(title: string, body: string): string {
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="robots" content="noindex"><title>${title}</title><style>${STYLE}</style></head>
<body><main><h1>${title}</h1>${body}</main><script>${SCRIPT}</script></body></html>
`
}

function formatBytes(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB']
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit += 1
  }
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${units[unit] ?? ''}`
}

function escapeHtml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;')
}

function sourceHash(source: string): string {
  return `sha256-${createHash('sha256').update(source).digest('base64')}`
}
