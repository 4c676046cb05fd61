package nftables

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// sendBuffer holds the largest transaction: 100,000 elements are about 8 MiB. It is
	// a limit, not memory that is used.
	sendBuffer = 256 << 20
	// receiveBuffer holds an answer to each message of such a transaction.
	receiveBuffer = 8 << 20
	// messageElements is how many elements go in one message. The list is an attribute,
	// whose length has 16 bits, and the longest element takes 92 bytes.
	messageElements = 600
)

// kernel is the connection to the nftables of one network namespace. It stays open:
// when a socket that removed something is closed, the kernel waits until nobody can be
// using that any more, some ten milliseconds.
type kernel struct {
	conn      *nftables.Conn
	namespace uint64
	table     *nftables.Table
}

// connect opens the namespace of the calling thread, or keeps it open.
func (k *kernel) connect() error {
	var stat unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &stat); err != nil {
		return fmt.Errorf("find network namespace: %w", err)
	}
	if k.conn != nil && k.namespace == stat.Ino {
		return nil
	}
	if err := k.close(); err != nil {
		return err
	}
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetWriteBuffer(sendBuffer), c.SetReadBuffer(receiveBuffer))
	}))
	if err != nil {
		return fmt.Errorf("open nftables socket: %w", err)
	}
	k.conn, k.namespace = conn, stat.Ino
	k.table = &nftables.Table{Family: nftables.TableFamilyIPv4, Name: tableName}
	return nil
}

// close ends the connection; connect opens it again. After an error the connection
// must not be used again: answers that nobody has read may be left in it.
func (k *kernel) close() error {
	if k.conn == nil {
		return nil
	}
	conn := k.conn
	k.conn = nil
	if err := conn.CloseLasting(); err != nil {
		return fmt.Errorf("close nftables socket: %w", err)
	}
	return nil
}

// content is what the table has.
type content struct {
	exists bool
	// usable is false when a set or a hooked chain is there in another shape, as another
	// version of the engine made it: then the table is made anew.
	usable bool
	sets   map[string]bool
	// chains are the fingerprints of each chain's rules.
	chains map[string][]string
	items  items
}

// read answers what is in the table. chains are those that shall be there.
func (k *kernel) read(chains []chain) (content, error) {
	c := content{usable: true, sets: map[string]bool{}, chains: map[string][]string{}, items: items{}}
	var err error
	if c.exists, err = k.exists(); err != nil || !c.exists {
		return c, err
	}
	if err := k.readChains(&c, chains); err != nil {
		return c, err
	}
	return c, k.readSets(&c)
}

// exists says whether the table is there.
func (k *kernel) exists() (bool, error) {
	tables, err := k.conn.ListTablesOfFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return false, fmt.Errorf("list tables: %w", err)
	}
	return slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == tableName }), nil
}

func (k *kernel) readChains(c *content, chains []chain) error {
	wanted := map[string]chain{}
	for _, want := range chains {
		wanted[want.name] = want
	}
	all, err := k.conn.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return fmt.Errorf("list chains: %w", err)
	}
	for _, there := range all {
		if there.Table.Name != tableName {
			continue
		}
		if want, ok := wanted[there.Name]; ok && !sameHook(want.hook, there) {
			c.usable = false
		}
		rules, err := k.conn.GetRules(k.table, there)
		if err != nil {
			return fmt.Errorf("list rules of chain %s: %w", there.Name, err)
		}
		prints := make([]string, 0, len(rules))
		for _, rule := range rules {
			comment, _ := userdata.GetString(rule.UserData, userdata.TypeComment)
			prints = append(prints, comment)
		}
		c.chains[there.Name] = prints
	}
	return nil
}

func sameHook(want *hook, there *nftables.Chain) bool {
	if want == nil || there.Hooknum == nil || there.Priority == nil {
		return want == nil && there.Hooknum == nil
	}
	return there.Type == want.kind && *there.Hooknum == want.number && *there.Priority == want.priority &&
		(there.Policy == nil || *there.Policy == nftables.ChainPolicyAccept)
}

func (k *kernel) readSets(c *content) error {
	sets, err := k.conn.GetSets(k.table)
	if err != nil {
		return fmt.Errorf("list sets: %w", err)
	}
	for _, set := range sets {
		s := shapeOf(set.Name)
		c.sets[set.Name] = true
		if !s.is(set) {
			c.usable = false
			continue
		}
		if s.kernels {
			continue
		}
		elements, err := k.conn.GetSetElements(set)
		if err != nil {
			return fmt.Errorf("list elements of set %s: %w", set.Name, err)
		}
		for _, e := range elements {
			c.items.add(set.Name, string(e.Key), string(e.Val))
		}
	}
	return nil
}

// transaction is what is sent at once; it takes effect as a whole or not at all.
type transaction struct {
	// anew: the table is taken out first.
	anew bool
	sets []shape
	// chains are new, or get other rules.
	chains []chain
	// goneChains and goneSets are to be deleted.
	goneChains, goneSets []string
	added, taken         items
	// forgotten are the identities whose clients are to be forgotten afterwards.
	forgotten map[string]bool
}

func (t transaction) empty() bool {
	return !t.anew && len(t.sets)+len(t.chains)+len(t.goneChains)+len(t.goneSets)+len(t.added)+len(t.taken) == 0
}

// send commits a transaction.
func (k *kernel) send(t transaction) error {
	if t.anew {
		k.conn.AddTable(k.table)
		k.conn.DelTable(k.table)
	}
	if t.anew || len(t.sets)+len(t.chains) > 0 {
		k.conn.AddTable(k.table)
	}
	for _, s := range t.sets {
		if err := k.conn.AddSet(s.set(k.table), nil); err != nil {
			return fmt.Errorf("write set %s: %w", s.name, err)
		}
	}
	// All chains before any rule: rules lead to chains.
	for _, c := range t.chains {
		made := k.chain(c)
		k.conn.AddChain(made)
		if !t.anew {
			k.conn.FlushChain(made)
		}
	}
	if err := k.elements(t.taken, t.goneSets, k.conn.SetDeleteElements); err != nil {
		return err
	}
	for _, c := range t.chains {
		if err := k.rules(c); err != nil {
			return err
		}
	}
	if err := k.elements(t.added, nil, k.conn.SetAddElements); err != nil {
		return err
	}
	// Also chains to delete can lead to one another: first all are emptied.
	for _, name := range t.goneChains {
		k.conn.FlushChain(&nftables.Chain{Table: k.table, Name: name})
	}
	for _, name := range t.goneChains {
		k.conn.DelChain(&nftables.Chain{Table: k.table, Name: name})
	}
	for _, name := range t.goneSets {
		k.conn.DelSet(&nftables.Set{Table: k.table, Name: name})
	}
	return k.conn.Flush()
}

func (k *kernel) chain(c chain) *nftables.Chain {
	made := &nftables.Chain{Table: k.table, Name: c.name}
	if c.hook != nil {
		made.Type, made.Hooknum, made.Priority = c.hook.kind, &c.hook.number, &c.hook.priority
	}
	return made
}

func (k *kernel) rules(c chain) error {
	for _, r := range c.rules {
		print, err := r.fingerprint()
		if err != nil {
			return fmt.Errorf("write rules of chain %s: %w", c.name, err)
		}
		k.conn.AddRule(&nftables.Rule{
			Table: k.table, Chain: &nftables.Chain{Name: c.name}, Exprs: r.exprs,
			UserData: userdata.AppendString(nil, userdata.TypeComment, print),
		})
	}
	return nil
}

// elements writes items, set by set, in messages of bounded length.
func (k *kernel) elements(all items, gone []string, write func(*nftables.Set, []nftables.SetElement) error) error {
	bySet := map[string][]item{}
	for i := range all {
		bySet[i.set] = append(bySet[i.set], i)
	}
	for name, list := range bySet {
		if slices.Contains(gone, name) {
			continue // with all that is in it
		}
		set := shapeOf(name).set(k.table)
		for part := range slices.Chunk(list, messageElements) {
			elements := make([]nftables.SetElement, len(part))
			for n, i := range part {
				elements[n] = nftables.SetElement{Key: []byte(i.key), Val: []byte(i.value)}
			}
			if err := write(set, elements); err != nil {
				return fmt.Errorf("write elements of set %s: %w", name, err)
			}
		}
	}
	return nil
}

// remove takes the table out, if it is there. Otherwise it sends nothing.
func (k *kernel) remove() error {
	if there, err := k.exists(); err != nil || !there {
		return err
	}
	k.conn.AddTable(k.table)
	k.conn.DelTable(k.table)
	return k.conn.Flush()
}
