package egressguard

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
)

// ensureChains makes what is missing or different, each chain in a transaction of its
// own: between the old rules of a chain and the new ones there is no moment.
func ensureChains(conn *nftables.Conn, all []chain) (repairs []string, err error) {
	there, err := exists(conn)
	if err != nil {
		return nil, err
	}
	if !there {
		repairs = append(repairs, fmt.Sprintf("nftables: table %s is missing", tableName))
	}
	t := conn.AddTable(table())
	open, pairs, held := sets()
	for _, set := range []*nftables.Set{open, pairs, held} {
		if err := conn.AddSet(set, nil); err != nil {
			return nil, fmt.Errorf("set %s: %w", set.Name, err)
		}
	}
	if err := conn.Flush(); err != nil {
		return nil, fmt.Errorf("table and sets: %w", err)
	}
	has, err := conn.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return nil, fmt.Errorf("list chains: %w", err)
	}
	priorities := map[string]nftables.ChainPriority{}
	for _, c := range has {
		if c.Table.Name == tableName && c.Priority != nil {
			priorities[c.Name] = *c.Priority
		}
	}
	for _, ch := range all {
		priority, exists := priorities[ch.name]
		right := exists && priority == ch.priority
		if right {
			if right, err = ch.right(conn, t); err != nil {
				return repairs, err
			}
		}
		if right {
			continue
		}
		ch.make(conn, t, exists)
		if err := conn.Flush(); err != nil {
			return repairs, fmt.Errorf("chain %s: %w", ch.name, err)
		}
		repairs = append(repairs, fmt.Sprintf("nftables: table %s: chain %s made anew", tableName, ch.name))
	}
	return repairs, nil
}

// right says whether a chain has exactly its rules. A rule is known by its comment, which
// has a digest of what the rule does: nobody changes a rule and keeps its comment by
// accident.
func (ch chain) right(conn *nftables.Conn, t *nftables.Table) (bool, error) {
	has, err := conn.GetRules(t, &nftables.Chain{Table: t, Name: ch.name})
	if err != nil {
		return false, fmt.Errorf("list rules of chain %s: %w", ch.name, err)
	}
	if len(has) != len(ch.rules) {
		return false, nil
	}
	for i, r := range has {
		if text, _ := userdata.GetString(r.UserData, userdata.TypeComment); text != ch.comment(i) {
			return false, nil
		}
	}
	return true, nil
}

// make replaces a chain, in one transaction that the caller sends.
func (ch chain) make(conn *nftables.Conn, t *nftables.Table, exists bool) {
	accept := nftables.ChainPolicyAccept
	priority, hook := ch.priority, ch.hook
	c := &nftables.Chain{
		Table: t, Name: ch.name, Type: ch.kind, Hooknum: &hook, Priority: &priority, Policy: &accept,
	}
	if exists {
		conn.FlushChain(c)
		conn.DelChain(c) // its priority may be another
	}
	conn.AddChain(c)
	for i, r := range ch.rules {
		conn.AddRule(&nftables.Rule{Table: t, Chain: c, Exprs: r.exprs, UserData: comment(ch.comment(i))})
	}
}

// comment says what a rule is for, and what it does as a digest.
func (ch chain) comment(i int) string {
	digest := fnv.New32a()
	for _, e := range ch.rules[i].exprs {
		bytes, err := expr.Marshal(byte(nftables.TableFamilyIPv4), e)
		if err == nil { // what cannot be sent, sending refuses
			_, _ = digest.Write(bytes)
		}
	}
	return ch.rules[i].comment + " #" + fmt.Sprintf("%x", binary.BigEndian.AppendUint32(nil, digest.Sum32()))
}

// counters reads how many packets the rules took that end them, by comment.
func counters(conn *nftables.Conn) (map[string]uint64, error) {
	packets := map[string]uint64{commentClosed: 0, commentNew: 0, commentForeign: 0, commentOther: 0}
	t := table()
	for _, ch := range chains(Config{}) {
		rules, err := conn.GetRules(t, &nftables.Chain{Table: t, Name: ch.name})
		if err != nil {
			return nil, fmt.Errorf("list rules of chain %s: %w", ch.name, err)
		}
		for _, r := range rules {
			text, _ := userdata.GetString(r.UserData, userdata.TypeComment)
			reason, _, _ := strings.Cut(text, " #")
			for _, e := range r.Exprs {
				if c, ok := e.(*expr.Counter); ok {
					packets[reason] += c.Packets
				}
			}
		}
	}
	return packets, nil
}
