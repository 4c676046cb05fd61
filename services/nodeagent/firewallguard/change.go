package firewallguard

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// atOnce is how many elements are sent in one message. The list is an attribute, whose
// length has 16 bits; the longest element takes 108 bytes.
const atOnce = 500

// anew replaces the whole table in one transaction, whatever was there under its name:
// what passed before and after passes at each moment.
func anew(conn *nftables.Conn, config Config, want contents) error {
	conn.AddTable(table()) // else there may be none to delete
	conn.DelTable(table())
	conn.AddTable(table())
	for _, s := range newContents().standing() {
		if err := conn.AddSet(s.set, nil); err != nil {
			return fmt.Errorf("set %s: %w", s.set.Name, err)
		}
	}
	chains := standing(config)
	for _, c := range chains {
		conn.AddChain(c.chain())
	}
	for _, c := range chains {
		c.addRules(conn)
	}
	if _, err := difference(conn, newContents(), want); err != nil {
		return err
	}
	return conn.Flush()
}

// difference sends what makes has become want, for the next flush, and answers a line for
// each element. A firewall's chain and set are there before a pod is led to it, and go when no pod is.
func difference(conn *nftables.Conn, has, want contents) (lines []string, err error) {
	for firewall := range want.allowed {
		if _, there := has.allowed[firewall]; there {
			continue
		}
		c, set := firewallChain(firewall), allowedSet(firewall)
		if err := conn.AddSet(set, nil); err != nil {
			return nil, fmt.Errorf("set %s: %w", set.Name, err)
		}
		conn.AddChain(c.chain())
		c.addRules(conn)
		lines = append(lines, fmt.Sprintf("nftables: table %s: chain %s is missing", tableName, c.name))
	}
	sets := has.standing()
	for i := range sets {
		_, sets[i].want = want.of(sets[i].set.Name)
	}
	for firewall := range want.allowed {
		sets = append(sets, elements{allowedSet(firewall), has.allowed[firewall], want.allowed[firewall]})
	}
	for _, s := range sets {
		more, err := s.become(conn)
		if err != nil {
			return nil, fmt.Errorf("set %s: %w", s.set.Name, err)
		}
		lines = append(lines, more...)
	}
	for firewall := range has.allowed {
		if _, wanted := want.allowed[firewall]; wanted {
			continue
		}
		c := firewallChain(firewall)
		conn.DelChain(c.chain())
		conn.DelSet(allowedSet(firewall))
		lines = append(lines, fmt.Sprintf("nftables: table %s: chain %s should not be there", tableName, c.name))
	}
	slices.Sort(lines)
	return lines, nil
}

// elements are those that a set has, and those that it shall have.
type elements struct {
	set       *nftables.Set
	has, want map[string]string
}

// become sends what differs.
func (e elements) become(conn *nftables.Conn) (lines []string, err error) {
	var gone, added []nftables.SetElement
	for key, value := range e.has {
		if is, wanted := e.want[key]; !wanted || is != value {
			gone = append(gone, e.element(key, value))
			lines = append(lines, fmt.Sprintf("nftables: table %s: set %s: %s should not be there", tableName, e.set.Name, spell([]byte(key))))
		}
	}
	for key, value := range e.want {
		if was, there := e.has[key]; !there || was != value {
			added = append(added, e.element(key, value))
			lines = append(lines, fmt.Sprintf("nftables: table %s: set %s: %s is missing", tableName, e.set.Name, spell([]byte(key))))
		}
	}
	for some := range slices.Chunk(gone, atOnce) {
		if err := conn.SetDeleteElements(e.set, some); err != nil {
			return nil, err
		}
	}
	for some := range slices.Chunk(added, atOnce) {
		if err := conn.SetAddElements(e.set, some); err != nil {
			return nil, err
		}
	}
	return lines, nil
}

func (e elements) element(key, firewall string) nftables.SetElement {
	made := nftables.SetElement{Key: []byte(key)}
	if e.set.IsMap {
		made.VerdictData = &expr.Verdict{Kind: expr.VerdictGoto, Chain: chainPrefix + firewall}
	}
	return made
}

// dropped reads how many packets ended.
func dropped(conn *nftables.Conn) (packets uint64, err error) {
	has, err := conn.GetRules(table(), &nftables.Chain{Table: table(), Name: chainRefuse})
	if err != nil {
		return 0, fmt.Errorf("list rules: %w", err)
	}
	for _, r := range has {
		for _, e := range r.Exprs {
			if c, ok := e.(*expr.Counter); ok {
				packets += c.Packets
			}
		}
	}
	return packets, nil
}
