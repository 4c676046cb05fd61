package iptables

import (
	"errors"
	"fmt"
	"strings"
)

// saved are the rules of every chain that is there. A chain without rules has an entry.
type saved map[place][]string

// parseSave reads what iptables-save prints. It keeps the tables that we write. Lines
// are cut, not copied: the result shares the text's memory.
func parseSave(text string) (saved, error) {
	s := saved{}
	table := ""
	for number := 1; text != ""; number++ {
		line, rest, _ := strings.Cut(text, "\n")
		text = rest
		if err := s.line(strings.TrimRight(line, " \r"), &table); err != nil {
			return nil, fmt.Errorf("line %d of iptables-save: %w", number, err)
		}
	}
	if table != "" {
		return nil, errors.New("iptables-save stopped before the end of table " + table)
	}
	return s, nil
}

// line reads one line. table is the one that is open, empty between tables.
func (s saved) line(line string, table *string) error {
	switch {
	case line == "":
		return nil
	case line[0] == '#':
		return incompatible(line)
	case line[0] == '*':
		if *table != "" {
			return fmt.Errorf("table %q begins inside of table %s", line[1:], *table)
		}
		if *table = line[1:]; *table == "" {
			return errors.New("a table has no name")
		}
		return nil
	case *table == "":
		return fmt.Errorf("%q belongs to no table", line)
	case line == "COMMIT":
		*table = ""
		return nil
	case *table != tableNAT && *table != tableFilter:
		return nil
	case line[0] == ':':
		name, _, ok := strings.Cut(line[1:], " ")
		if !ok || name == "" {
			return fmt.Errorf("%q is no chain", line)
		}
		if at := (place{*table, name}); s[at] == nil {
			s[at] = []string{}
		}
		return nil
	}
	name, rule, ok := strings.Cut(strings.TrimPrefix(line, "-A "), " ")
	if !strings.HasPrefix(line, "-A ") || name == "" || !ok {
		return fmt.Errorf("%q is no rule", line)
	}
	at := place{*table, name}
	s[at] = append(s[at], rule)
	return nil
}

// incompatible answers an error when iptables-nft says, in a comment, that it cannot
// read one of our tables: somebody wrote rules of nftables into it.
func incompatible(line string) error {
	if !strings.Contains(line, "is incompatible") {
		return nil
	}
	for _, table := range []string{tableNAT, tableFilter} {
		if strings.Contains(line, "`"+table+"'") {
			return fmt.Errorf("table %s holds rules that iptables cannot read (%s)", table, strings.TrimLeft(line, "# "))
		}
	}
	return nil
}
