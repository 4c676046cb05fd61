package nftables

import (
	"github.com/google/nftables"
)

// tableName is the table that is the engine's own.
const tableName = "damask_proxy"

// maxAffinities is how many clients of sticky services the kernel remembers. 131,072
// take 2 MiB when empty, and about 20 MiB when full.
const maxAffinities = 1 << 17

// The sets that are no way's, refusal's or choice's. What they hold is said in the
// package's documentation.
const (
	setBackends = "backends"
	setSticky   = "sticky"
	setAffinity = "affinity"
	setSources  = "sources"
	setHairpin  = "hairpin"
)

// shape is what a set is made of.
type shape struct {
	name string
	key  []nftables.SetDatatype
	// data is empty where the set is no map.
	data []nftables.SetDatatype
	// kernels says that packets fill the set: the engine neither writes nor compares
	// its elements.
	kernels bool
}

// frontends is the shape of a set of frontends.
func frontends(name string) shape {
	return shape{name: name, key: []nftables.SetDatatype{nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService}}
}

// standingShapes are the sets that are there without any service.
func standingShapes() []shape {
	addr, proto, port, number := nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService, nftables.TypeMark
	type list = []nftables.SetDatatype
	all := []shape{
		{name: clusterScope.affine(), key: list{addr, port, number, number}},
		{name: externalScope.affine(), key: list{addr, port, number, number}},
		{name: ownScope.affine(), key: list{addr, port, number, number}},
		{name: setAffinity, key: list{number, number, addr}, data: list{addr, port}, kernels: true},
		{name: setBackends, key: list{addr, proto, port, number}, data: list{addr, port}},
		{name: setHairpin, key: list{addr, addr}},
		{name: setSources, key: list{addr, proto, port, addr, addr}},
		{name: setSticky, key: list{addr, proto, port}, data: list{number, number}},
	}
	for _, w := range ways() {
		all = append(all, frontends(w.set()))
	}
	for _, r := range refusals() {
		all = append(all, frontends(r.set()))
	}
	return all
}

// shapeOf answers the shape of a set that the engine makes.
func shapeOf(name string) shape {
	for _, s := range standingShapes() {
		if s.name == name {
			return s
		}
	}
	return frontends(name)
}

// set is the shape as the library wants it.
func (s shape) set(table *nftables.Table) *nftables.Set {
	set := &nftables.Set{Table: table, Name: s.name, KeyType: nftables.MustConcatSetType(s.key...), IsMap: len(s.data) > 0, Concatenation: true}
	if set.IsMap {
		set.DataType = nftables.MustConcatSetType(s.data...)
	}
	if s.kernels {
		set.Dynamic, set.HasTimeout, set.Size = true, true, maxAffinities
	}
	return set
}

// is says that a set of the kernel has this shape.
func (s shape) is(there *nftables.Set) bool {
	want := s.set(there.Table)
	return there.IsMap == want.IsMap && there.Dynamic == want.Dynamic && there.HasTimeout == want.HasTimeout &&
		!there.Interval && there.KeyType.Bytes == want.KeyType.Bytes && there.DataType.Bytes == want.DataType.Bytes
}
