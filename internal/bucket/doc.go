// Package bucket is the store of one control service: a JetStream key-value
// bucket of which every replica of the service holds a full view in memory.
//
// It owns the stream KV_<name> (layout of the NATS key-value stores, so that
// the nats command line tool reads it), the view, the transactions and the head
// notes on the bus. The server itself republishes every commit on the bus
// (JetStream RePublish); nobody publishes changes by hand.
//
// It promises:
//
//   - A transaction (Update) is all or nothing, also when the process or the
//     server is killed at any moment: several keys are one JetStream atomic batch.
//   - Every written key is compared: a transaction commits only if none of the
//     keys that it writes changed since it looked at the bucket. Keys that it
//     only read are not compared; Tx.Touch makes a read key part of the comparison.
//   - The view shows a batch whole or not at all, and never goes back, unless
//     the store itself was replaced by another one.
//   - Read your writes: when Update answers, the view of this process has it.
//   - When an answer of the server is lost, Update finds out what happened and
//     never commits twice. Each commit carries an id; it is sent again under
//     that id until the server says applied, applied before, or refused. Should
//     even that not be possible before ctx ends, the error is ErrOutcomeUnknown.
//     A caller that then tries again with the same object key is safe: its
//     commit compares the object's revision, so at most one of the two stands.
//
// Cost: a commit of one key is one message. A commit of several is a batch, for
// which the server of a bucket without replicas makes and syncs files of its
// own, 5 to 25 ms; with replicas it keeps the batch in memory. So transactions
// that come at the same time share batches, and throughput grows with what is
// under way at once.
//
// Durability: an acknowledged commit has reached the server's file (write
// system call), not necessarily the disk. It survives kill -9 of the server; a
// power failure can take the last moments unless the server runs with
// sync: always (see package natsd), or the bucket has three replicas.
//
// It must not know what the values mean, and must not be written by anybody
// but the service that owns the bucket.
package bucket
