package policyflow

import (
	"hash/fnv"
	"strconv"
)

// identities gives every name a number that only it has. Which one depends on
// the names that there are, and not on the order in which they came: a name asks
// for a sequence of numbers that follows from it, and of two that ask for one
// number the name that sorts first has it.
type identities struct {
	hash  func(name string, try int) uint32
	names map[uint32]string
	tries map[string]int      // How far each name came in its sequence.
	late  map[string]struct{} // Names that did not get their first number: few.
}

func newIdentities() *identities {
	return &identities{hash: hashOf, names: map[uint32]string{}, tries: map[string]int{}, late: map[string]struct{}{}}
}

func hashOf(name string, try int) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name)) // Never fails.
	if try > 0 {
		_, _ = h.Write([]byte("#" + strconv.Itoa(try)))
	}
	return h.Sum32()
}

// of answers a name's number.
func (x *identities) of(name string) uint32 { return x.hash(name, x.tries[name]) }

// claim gives a name a number, and answers the other names that have another
// number now.
func (x *identities) claim(name string) (moved []string) {
	try := 0
	for {
		id := x.hash(name, try)
		holder, held := x.names[id]
		switch {
		case id == 0 || held && holder < name: // 0 is no conjunction.
			try++
			continue
		case !held:
			x.give(id, name, try)
			return moved
		}
		x.give(id, name, try)
		name, try = holder, x.tries[holder]+1
		moved = append(moved, holder)
	}
}

func (x *identities) give(id uint32, name string, try int) {
	x.names[id], x.tries[name] = name, try
	delete(x.late, name)
	if try > 0 {
		x.late[name] = struct{}{}
	}
}

// release frees a name's number, and answers the other names that may have
// another number now.
func (x *identities) release(name string) (moved []string) {
	if _, ok := x.tries[name]; !ok {
		return nil
	}
	delete(x.names, x.of(name))
	delete(x.tries, name)
	delete(x.late, name)
	// Whoever did not get its first number asks anew.
	for other := range x.late {
		moved = append(moved, other)
	}
	clear(x.late)
	for _, other := range moved {
		delete(x.names, x.of(other))
	}
	for _, other := range moved {
		delete(x.tries, other)
	}
	for _, other := range moved {
		moved = append(moved, x.claim(other)...)
	}
	return moved
}
