package bucket

import (
	"fmt"
	"strings"

	"github.com/damask-sdn/damask/internal/bus"
	"github.com/damask-sdn/damask/internal/token"
)

// maxKeyLength keeps subjects far below the server's limit for a protocol line
// (4096 bytes), headers of the change bus included.
const maxKeyLength = 1024

// Key builds the key of an object: its kind and the tokens of its names.
func Key(kind string, names ...string) string {
	var b strings.Builder
	b.WriteString(kind)
	for _, name := range names {
		b.WriteByte('.')
		b.WriteString(token.Encode(name))
	}
	return b.String()
}

// CheckKey says what is wrong with a key: it must be KIND.TOKEN[.TOKEN]…, the
// kind lower-case letters and not "head", the tokens as package token writes
// them.
func CheckKey(key string) error {
	if len(key) > maxKeyLength {
		return fmt.Errorf("key %.40q…: longer than %d bytes", key, maxKeyLength)
	}
	kind, rest, found := strings.Cut(key, ".")
	if !found {
		return fmt.Errorf("key %q: no name after the kind", key)
	}
	if kind == "" || strings.Trim(kind, "abcdefghijklmnopqrstuvwxyz") != "" {
		return fmt.Errorf("key %q: kind %q is not lower-case letters", key, kind)
	}
	if kind == bus.Head {
		return fmt.Errorf("key %q: kind %q is reserved", key, kind)
	}
	for tok := range strings.SplitSeq(rest, ".") {
		if tok == "" {
			return fmt.Errorf("key %q: empty name", key)
		}
		if _, err := token.Decode(tok); err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
	}
	return nil
}

func kindOf(key string) string {
	kind, _, _ := strings.Cut(key, ".")
	return kind
}
