package masquerade

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// parseRule reads one line of `iptables -S`, "-A CHAIN …", into the words of the rule.
// ok is false for other lines: "-P CHAIN ACCEPT", "-N CHAIN".
func parseRule(line, chain string) (r rule, ok bool, err error) {
	words, err := splitWords(line)
	if err != nil {
		return nil, false, fmt.Errorf("read rule %q: %w", line, err)
	}
	if len(words) < 2 || words[0] != "-A" || words[1] != chain {
		return nil, false, nil
	}
	return words[2:], true, nil
}

// splitWords splits at blanks; a word in double quotes may hold blanks, and a
// backslash in it takes the next character as it is.
func splitWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord, quoted, escaped := false, false, false
	for _, c := range line {
		switch {
		case escaped:
			word.WriteRune(c)
			escaped = false
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			quoted, inWord = !quoted, true
		case !quoted && (c == ' ' || c == '\t' || c == '\n'):
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteRune(c)
			inWord = true
		}
	}
	if quoted {
		return nil, errors.New("a quote is not closed")
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// same says whether two rules are one.
func same(a, b rule) bool { return slices.Equal(normal(a), normal(b)) }

// normal undoes three things that versions of iptables print differently: the target
// NOTRACK as "CT --notrack", gre as its protocol number, and MACs in capitals.
func normal(r rule) rule {
	const gre = "47"
	var n rule
	for i := 0; i < len(r); i++ {
		switch {
		case r[i] == "CT" && i+1 < len(r) && r[i+1] == "--notrack":
			n = append(n, "NOTRACK")
			i++
		case r[i] == gre && i > 0 && r[i-1] == "-p":
			n = append(n, "gre")
		case i > 0 && r[i-1] == "--mac-source":
			n = append(n, strings.ToLower(r[i]))
		default:
			n = append(n, r[i])
		}
	}
	return n
}

// String prints a rule as iptables does.
func (r rule) String() string {
	words := make([]string, 0, len(r))
	for _, w := range r {
		if w == "" || strings.ContainsAny(w, " \t\"\\") {
			w = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(w) + `"`
		}
		words = append(words, w)
	}
	return strings.Join(words, " ")
}
