package netnamespace

import (
	"fmt"
	"slices"
	"strings"
)

// maxSharers is how many namespaces may share one VNID. It keeps the list
// below the 1 MiB that NATS carries in a message: 64 bytes a name at most.
const maxSharers = 10_000

// sharers are the namespaces that have one VNID, in order: the value of the
// VNID's key.
type sharers []string

// parseSharers reads the value of a VNID's key: names, one a line.
func parseSharers(value []byte) (sharers, error) {
	names := sharers(strings.Split(string(value), "\n"))
	for i, name := range names {
		if name == "" || i > 0 && names[i-1] >= name {
			return nil, fmt.Errorf("read sharers: name %d of %q is empty or out of order", i+1, value)
		}
	}
	return names, nil
}

func (s sharers) encode() []byte { return []byte(strings.Join(s, "\n")) }

func (s sharers) has(name string) bool {
	_, found := slices.BinarySearch(s, name)
	return found
}

// with returns the list with the name in it.
func (s sharers) with(name string) sharers {
	at, found := slices.BinarySearch(s, name)
	if found {
		return s
	}
	return slices.Insert(slices.Clone(s), at, name)
}

// without returns the list without the name.
func (s sharers) without(name string) sharers {
	at, found := slices.BinarySearch(s, name)
	if !found {
		return s
	}
	return slices.Delete(slices.Clone(s), at, at+1)
}
