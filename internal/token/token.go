// Package token turns names into single NATS subject tokens and back.
//
// A dot separates tokens in NATS subjects and JetStream keys, but Kubernetes
// names contain dots. So every byte outside [A-Za-z0-9-] becomes an underscore
// and two upper-case hexadecimal digits: "infra.ocp.cn" is "infra_2Eocp_2Ecn".
//
// It promises that every string has exactly one token and every token at most
// one string. It knows nothing about keys, kinds or limits on length.
package token

import (
	"fmt"
	"strings"
)

const hexDigits = "0123456789ABCDEF"

// Encode answers the token of a name. The token of the empty name is empty,
// which is no valid subject token: whoever builds a subject must refuse it.
func Encode(name string) string {
	plain := 0
	for plain < len(name) && isPlain(name[plain]) {
		plain++
	}
	if plain == len(name) {
		return name
	}
	var b strings.Builder
	b.Grow(len(name) + 6)
	b.WriteString(name[:plain])
	for i := plain; i < len(name); i++ {
		c := name[i]
		if isPlain(c) {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('_')
		b.WriteByte(hexDigits[c>>4])
		b.WriteByte(hexDigits[c&0x0f])
	}
	return b.String()
}

// Decode answers the name of a token. It refuses what Encode never writes, so
// that two different tokens never mean one name.
func Decode(tok string) (string, error) {
	if strings.IndexByte(tok, '_') < 0 {
		if i := firstForeign(tok); i >= 0 {
			return "", fmt.Errorf("token %q: byte %q at %d is not allowed", tok, tok[i], i)
		}
		return tok, nil
	}
	var b strings.Builder
	b.Grow(len(tok))
	for i := 0; i < len(tok); i++ {
		c := tok[i]
		if isPlain(c) {
			b.WriteByte(c)
			continue
		}
		if c != '_' {
			return "", fmt.Errorf("token %q: byte %q at %d is not allowed", tok, c, i)
		}
		if i+2 >= len(tok) {
			return "", fmt.Errorf("token %q: escape at %d is cut short", tok, i)
		}
		high, low := strings.IndexByte(hexDigits, tok[i+1]), strings.IndexByte(hexDigits, tok[i+2])
		if high < 0 || low < 0 {
			return "", fmt.Errorf("token %q: escape at %d is not two upper-case hexadecimal digits", tok, i)
		}
		decoded := byte(high<<4 | low)
		if isPlain(decoded) {
			return "", fmt.Errorf("token %q: escape at %d stands for %q, which is never escaped", tok, i, decoded)
		}
		b.WriteByte(decoded)
		i += 2
	}
	return b.String(), nil
}

func isPlain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c == '-'
}

func firstForeign(s string) int {
	for i := 0; i < len(s); i++ {
		if !isPlain(s[i]) {
			return i
		}
	}
	return -1
}
