package resolution

import (
	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/internal/policy/policywire"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/group"
)

// divided is a group in its shards.
type divided struct {
	shards []map[policy.Member]struct{}
	size   int
}

// newDivided answers an empty group that is stored in so many shards; 0: in
// none.
func newDivided(stored int) *divided {
	return &divided{shards: make([]map[policy.Member]struct{}, stored)}
}

// change takes over a change, and answers the shards that are to be written, in
// the order of writing, and those that are to be deleted after that.
func (d *divided) change(c group.Change) (write []int, drop int) {
	was := len(d.shards)
	if c.Whole {
		d.shards, d.size = make([]map[policy.Member]struct{}, was), 0
	}
	dirty := map[int]bool{}
	for _, m := range c.Removed {
		dirty[d.remove(m)] = true
	}
	now := policywire.Shards(d.size+len(c.Added), was)
	if now != was {
		d.divide(now)
	}
	for _, m := range c.Added {
		dirty[d.add(m)] = true
	}
	// New shards come first: see AddressGroupShard.
	for i := was; i < now; i++ {
		write = append(write, i)
	}
	for i := range min(was, now) {
		if c.Whole || now != was || dirty[i] {
			write = append(write, i)
		}
	}
	return write, max(0, was-now)
}

func (d *divided) add(m policy.Member) int {
	at := policywire.ShardOf(m, len(d.shards))
	if d.shards[at] == nil {
		d.shards[at] = map[policy.Member]struct{}{}
	}
	d.shards[at][m] = struct{}{}
	d.size++
	return at
}

func (d *divided) remove(m policy.Member) int {
	at := policywire.ShardOf(m, len(d.shards))
	delete(d.shards[at], m)
	d.size--
	return at
}

// divide puts the members into another number of shards.
func (d *divided) divide(into int) {
	old := d.shards
	d.shards, d.size = make([]map[policy.Member]struct{}, into), 0
	for _, members := range old {
		for m := range members {
			d.add(m)
		}
	}
}

// message writes a shard.
func (d *divided) message(id policy.GroupID, shard int) *tenancyv1.AddressGroupShard {
	members := make([]policy.Member, 0, len(d.shards[shard]))
	for m := range d.shards[shard] {
		members = append(members, m)
	}
	return policywire.Shard(id, shard, len(d.shards), members)
}
