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
	tries map[string]int // How far each name came in its sequence.
}

func newIdentities() *identities {
	return &identities{hash: hashOf, names: map[uint32]string{}, tries: map[string]int{}}
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
			x.names[id], x.tries[name] = name, try
			return moved
		}
		x.names[id], x.tries[name] = name, try
		name, try = holder, x.tries[holder]+1
		moved = append(moved, holder)
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
	// Whoever did not get its first number asks anew.
	for other, try := range x.tries {
		if try > 0 {
			moved = append(moved, other)
		}
	}
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
