package store

import (
	"strings"

	"github.com/damask-sdn/damask/internal/token"
)

// NamesOf answers the names in a key of a kind; false if it is of another kind.
func NamesOf(key, kind string) ([]string, bool) {
	rest, ok := strings.CutPrefix(key, kind+".")
	if !ok {
		return nil, false
	}
	var names []string
	for part := range strings.SplitSeq(rest, ".") {
		name, err := token.Decode(part)
		if err != nil {
			return nil, false
		}
		names = append(names, name)
	}
	return names, true
}

// AddressOf answers the address whose owner a key says, if it is such a key.
func AddressOf(key string) (ip string, ok bool) {
	names, ok := NamesOf(key, kindAddress)
	if !ok || len(names) != 1 {
		return "", false
	}
	return names[0], true
}
