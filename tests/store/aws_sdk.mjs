// Run by test_clients_node.py in a folder with the SDK installed; fails by a thrown assertion.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import * as s3 from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';

const client = new s3.S3({
  endpoint: process.env.ENDPOINT, region: process.env.REGION, forcePathStyle: true,
  maxAttempts: 1,
  credentials: { accessKeyId: process.env.ACCESS_KEY, secretAccessKey: process.env.SECRET_KEY },
});
const Bucket = 'node';
const refused = async (call, name, status) => {
  const error = await call.then(() => null, (found) => found);
  assert.equal(error?.name, name);
  assert.equal(error.$metadata.httpStatusCode, status);
};
await client.createBucket({ Bucket });
const put = await client.putObject({ Bucket, Key: 'a b/ü+?#.txt', Body: 'héllo', Metadata: { x: 'y' } });
assert.match(put.ETag, /^"[0-9a-f]{32}"$/);
for (const ChecksumAlgorithm of ['CRC32', 'CRC32C', 'CRC64NVME', 'SHA1', 'SHA256']) {
  const Key = `sum/${ChecksumAlgorithm}`;
  const made = await client.putObject({ Bucket, Key, Body: 'sum', ChecksumAlgorithm });
  const read = await client.getObject({ Bucket, Key, ChecksumMode: 'ENABLED' });
  assert.equal(await read.Body.transformToString(), 'sum');
  assert.equal(read[`Checksum${ChecksumAlgorithm}`], made[`Checksum${ChecksumAlgorithm}`]);
}
const got = await client.getObject({ Bucket, Key: 'a b/ü+?#.txt' });
assert.equal(await got.Body.transformToString(), 'héllo');
assert.deepEqual(got.Metadata, { x: 'y' });
const part = await client.getObject({ Bucket, Key: 'a b/ü+?#.txt', Range: 'bytes=0-0' });
assert.equal(await part.Body.transformToString(), 'h');
// A stream of unknown length goes by parts, each in aws-chunked framing with a trailer.
const large = randomBytes(11 * 1024 * 1024 + 5);
const upload = new Upload({
  client, partSize: 5 * 1024 * 1024,
  params: { Bucket, Key: 'large', Body: Readable.from([large.subarray(0, 7777777), large.subarray(7777777)]) },
});
assert.match((await upload.done()).ETag, /-3"$/);
const back = await client.getObject({ Bucket, Key: 'large' });
assert.ok(large.equals(Buffer.from(await back.Body.transformToByteArray())));
const stream = await client.putObject({
  Bucket, Key: 'stream', Body: Readable.from([large.subarray(0, 300000)]), ContentLength: 300000,
});
assert.ok(stream.ETag);
await client.copyObject({ Bucket, Key: 'copy', CopySource: `${Bucket}/${encodeURIComponent('a b/ü+?#.txt')}` });
const keys = [];
for await (const page of s3.paginateListObjectsV2({ client, pageSize: 2 }, { Bucket })) {
  keys.push(...page.Contents.map((row) => row.Key));
}
assert.deepEqual(keys, [
  'a b/ü+?#.txt', 'copy', 'large', 'stream',
  'sum/CRC32', 'sum/CRC32C', 'sum/CRC64NVME', 'sum/SHA1', 'sum/SHA256',
]);
const folders = await client.listObjectsV2({ Bucket, Delimiter: '/' });
assert.deepEqual(folders.CommonPrefixes.map((row) => row.Prefix), ['a b/', 'sum/']);
await refused(client.getObject({ Bucket, Key: 'absent' }), 'NoSuchKey', 404);
await refused(client.putObject({ Bucket, Key: 'copy', Body: 'x', IfNoneMatch: '*' }), 'PreconditionFailed', 412);
await refused(client.headBucket({ Bucket: 'absent' }), 'NotFound', 404);
const url = await getSignedUrl(client, new s3.GetObjectCommand({ Bucket, Key: 'copy' }), { expiresIn: 60 });
assert.equal(await (await fetch(url)).text(), 'héllo');
assert.equal((await fetch(url.replace('copy', 'large'))).status, 403);
const gone = await client.deleteObjects({ Bucket, Delete: { Objects: keys.map((Key) => ({ Key })) } });
assert.equal(gone.Deleted.length, keys.length);
await client.deleteBucket({ Bucket });
console.log(JSON.stringify({ done: keys.length }));
