package policywire

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/damask-sdn/damask/internal/policy"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// How large shards are, on average. A group that grows past the upper bound has
// twice as many from then on, one that shrinks below the lower one as many as
// fit: between the two is enough that a group at a bound does not go to and fro.
// A shard of 256 IPv4 addresses is 2 KB, which is what one pod's change costs
// each node that uses the group.
const (
	shardMost  = 256
	shardLeast = 32
	// MaxShards keeps the writes of a division within one commit of the store
	// (1000 keys). Groups of more than 131,072 members have larger shards.
	MaxShards = 512
)

// Shards answers how many shards a group of so many members is to have that has
// some now; 0 for a group that has none yet. It is a power of two.
func Shards(members, now int) int {
	if now > 0 && members <= shardMost*now && (now == 1 || members >= shardLeast*now) {
		return now
	}
	want := (members + shardMost - 1) / shardMost
	return min(MaxShards, 1<<bits.Len(uint(max(want, 1)-1)))
}

// ShardOf answers the shard of a member, of a group that has so many.
func ShardOf(m policy.Member, shards int) int {
	h := fnv.New32a()
	b := m.Addr.As16()
	_, _ = h.Write(b[:])                                    // never fails
	_, _ = h.Write([]byte{byte(m.Port >> 8), byte(m.Port)}) // never fails
	x := h.Sum32()
	x ^= x >> 15 // FNV's low bits depend little on the address's high bytes
	return int(x) & (shards - 1)
}

// Shard writes a shard of a group. The members are sorted in place.
func Shard(id policy.GroupID, shard, shards int, members []policy.Member) *tenancyv1.AddressGroupShard {
	slices.SortFunc(members, compareMembers)
	out := &tenancyv1.AddressGroupShard{
		Group: string(id), Shard: uint32(shard), Shards: uint32(shards),
		Members: make([]*tenancyv1.AddressGroupMember, len(members)),
	}
	for i, m := range members {
		out.Members[i] = &tenancyv1.AddressGroupMember{Address: m.Addr.AsSlice(), Port: uint32(m.Port)}
	}
	return out
}

func compareMembers(a, b policy.Member) int {
	return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port))
}

// ReadShard reads the members of a shard.
func ReadShard(m *tenancyv1.AddressGroupShard) ([]policy.Member, error) {
	r := &reader{}
	r.group(m.GetGroup())
	if n := m.GetShards(); n == 0 || n > math.MaxInt32 || bits.OnesCount32(n) != 1 || m.GetShard() >= n {
		r.refuse("shard %d of %d", m.GetShard(), n)
	}
	members := make([]policy.Member, 0, len(m.GetMembers()))
	for _, one := range m.GetMembers() {
		a, ok := netip.AddrFromSlice(one.GetAddress())
		if !ok {
			r.refuse("an address has %d bytes", len(one.GetAddress()))
		}
		members = append(members, policy.Member{Addr: a, Port: r.port(one.GetPort())})
	}
	if err := r.err(fmt.Sprintf("shard %d of address group %s", m.GetShard(), m.GetGroup())); err != nil {
		return nil, err
	}
	return members, nil
}
