package policywire

import (
	"slices"

	"github.com/damask-sdn/damask/internal/policy"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// Gathered puts groups together from their shards, which come and go one at a
// time. It is not safe for concurrent use.
type Gathered struct {
	groups map[policy.GroupID]*gathered
}

type gathered struct {
	shards map[uint32][]policy.Member
	counts map[policy.Member]int // In how many shards.
	known  bool
}

// NewGathered answers one that knows no group.
func NewGathered() *Gathered { return &Gathered{groups: map[policy.GroupID]*gathered{}} }

// Move is what a shard's change means for its group. While a group is not Known
// completely, nothing is to be made of it: Added and Removed are empty.
type Move struct {
	ID policy.GroupID
	// Known: all of the group is here. First: it was not before this change;
	// Added is all of it.
	Known, First bool
	// Gone: none of it is left.
	Gone bool
	// Added and Removed are in order.
	Added, Removed []policy.Member
}

// Set takes over a shard. After an error everything is as before.
func (g *Gathered) Set(m *tenancyv1.AddressGroupShard) (Move, error) {
	members, err := ReadShard(m)
	if err != nil {
		return Move{}, err
	}
	id := policy.GroupID(m.GetGroup())
	group := g.groups[id]
	if group == nil {
		group = &gathered{shards: map[uint32][]policy.Member{}, counts: map[policy.Member]int{}}
		g.groups[id] = group
	}
	move := Move{ID: id}
	group.replace(m.GetShard(), members, &move)
	group.shards[m.GetShard()] = members
	if !group.known && group.has(m.GetShards()) {
		group.known, move.First = true, true
		move.Added, move.Removed = group.members(), nil
	}
	move.Known = group.known
	if !move.Known {
		move.Added, move.Removed = nil, nil
	}
	return move, nil
}

// Delete takes a shard away, by its name on the change bus.
func (g *Gathered) Delete(name string) (Move, error) {
	id, shard, err := ParseShardName(name)
	if err != nil {
		return Move{}, err
	}
	move := Move{ID: id}
	group := g.groups[id]
	if group == nil {
		return move, nil
	}
	group.replace(shard, nil, &move)
	delete(group.shards, shard)
	move.Known, move.Gone = group.known, len(group.shards) == 0
	if move.Gone {
		delete(g.groups, id)
	}
	if !move.Known {
		move.Added, move.Removed = nil, nil
	}
	return move, nil
}

// Forget drops a group that nobody is interested in any more.
func (g *Gathered) Forget(id policy.GroupID) { delete(g.groups, id) }

// Members answers who is in a group, and whether it is known completely.
func (g *Gathered) Members(id policy.GroupID) ([]policy.Member, bool) {
	group := g.groups[id]
	if group == nil || !group.known {
		return nil, false
	}
	return group.members(), true
}

// replace counts the members of a shard anew.
func (g *gathered) replace(shard uint32, members []policy.Member, move *Move) {
	was := make(map[policy.Member]bool, len(members))
	for _, m := range members {
		was[m] = g.counts[m] > 0
		g.counts[m]++
	}
	for _, m := range g.shards[shard] {
		if _, seen := was[m]; !seen {
			was[m] = true
		}
		g.counts[m]--
	}
	for m, before := range was {
		switch after := g.counts[m] > 0; {
		case after && !before:
			move.Added = append(move.Added, m)
		case !after:
			delete(g.counts, m)
			move.Removed = append(move.Removed, m)
		}
	}
	slices.SortFunc(move.Added, compareMembers)
	slices.SortFunc(move.Removed, compareMembers)
}

// has reports whether the shards from 0 up to n are there.
func (g *gathered) has(n uint32) bool {
	if uint64(len(g.shards)) < uint64(n) {
		return false
	}
	for i := range n {
		if _, there := g.shards[i]; !there {
			return false
		}
	}
	return true
}

func (g *gathered) members() []policy.Member {
	all := make([]policy.Member, 0, len(g.counts))
	for m := range g.counts {
		all = append(all, m)
	}
	slices.SortFunc(all, compareMembers)
	return all
}
