// Package policywire turns resolved policies into the messages of
// damask.tenancy.v1, and back.
//
// It owns that way in both directions, the names under which policies, shards of
// address groups and pods' policies are followed, and how a group is divided into
// shards and put together again.
//
// It promises that what was written is read as it was, and that a message which
// says nothing of its own meaning (an unknown tier, an address that is none, a
// rule of no direction) is an error and never another policy: a reader that
// cannot understand a policy must not enforce a part of it. It is pure. It must
// not know where messages come from.
//
// Used by services/tenancy, which writes, and services/nodeagent, which reads.
package policywire
