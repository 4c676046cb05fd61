package names

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/egress/store"
)

// Book is what the bucket says of names: which the policies have, what nodes
// were told, and what pods looked up. It is safe for concurrent use.
type Book struct {
	mu       sync.Mutex
	policies map[string]map[string]bool // names by policy's key
	users    map[string]map[string]int  // policies by name and namespace
	told     map[string]*egressv1.DNSName
	looked   map[string]map[string]time.Time // by wildcard and name, when it was reported
	wake     chan struct{}
}

// NewBook returns an empty book.
func NewBook() *Book {
	b := &Book{wake: make(chan struct{}, 1)}
	b.reset()
	return b
}

func (b *Book) reset() {
	b.policies, b.users = map[string]map[string]bool{}, map[string]map[string]int{}
	b.told, b.looked = map[string]*egressv1.DNSName{}, map[string]map[string]time.Time{}
}

// Wake is signalled when something changed that matters here.
func (b *Book) Wake() <-chan struct{} { return b.wake }

// Observe takes over changes of the bucket.
func (b *Book) Observe(changes []bucket.Change, reset bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if reset {
		b.reset()
	}
	matters := reset
	for _, c := range changes {
		if names, ok := store.NamesOf(c.Key, store.KindPolicy); ok {
			b.setPolicy(names[0], c)
			matters = true
		} else if names, ok := store.NamesOf(c.Key, store.KindDNSName); ok {
			delete(b.told, names[0])
			object := &egressv1.DNSName{}
			if !c.Deleted && proto.Unmarshal(c.Value, object) == nil {
				b.told[names[0]] = object
			}
		} else if names, ok := store.NamesOf(c.Key, store.KindMember); ok && len(names) == 2 {
			b.setMember(names[0], names[1], c)
			matters = true
		}
	}
	if !matters {
		return
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *Book) setPolicy(namespace string, c bucket.Change) {
	for name := range b.policies[c.Key] {
		if b.users[name][namespace]--; b.users[name][namespace] == 0 {
			delete(b.users[name], namespace)
		}
		if len(b.users[name]) == 0 {
			delete(b.users, name)
		}
	}
	delete(b.policies, c.Key)
	policy := &egressv1.EgressNetworkPolicy{}
	if c.Deleted || proto.Unmarshal(c.Value, policy) != nil {
		return
	}
	names := map[string]bool{}
	for _, rule := range policy.GetRules() {
		if name := rule.GetDnsName(); name != "" && !names[name] {
			names[name] = true
			if b.users[name] == nil {
				b.users[name] = map[string]int{}
			}
			b.users[name][namespace]++
		}
	}
	if len(names) > 0 {
		b.policies[c.Key] = names
	}
}

func (b *Book) setMember(wildcard, name string, c bucket.Change) {
	at, err := time.Parse(time.RFC3339, string(c.Value))
	if c.Deleted || err != nil {
		if delete(b.looked[wildcard], name); len(b.looked[wildcard]) == 0 {
			delete(b.looked, wildcard)
		}
		return
	}
	if b.looked[wildcard] == nil {
		b.looked[wildcard] = map[string]time.Time{}
	}
	b.looked[wildcard][name] = at
}

// rules answers the names that policies have, wildcards among them.
func (b *Book) rules() map[string]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[string]bool, len(b.users))
	for name := range b.users {
		all[name] = true
	}
	return all
}

// lookups answers the names to look up: those of rules that are no wildcards, and
// those below wildcards that pods looked up.
func (b *Book) lookups() map[string]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[string]bool, len(b.users))
	for name := range b.users {
		if !strings.HasPrefix(name, "*.") {
			all[name] = true
			continue
		}
		for member := range b.looked[name] {
			all[member] = true
		}
	}
	return all
}

// inTurn answers names to look up in another order: the namespaces whose policies have
// them take turns, each with its own in the order given, so that few names of one do not
// wait for many of another.
func (b *Book) inTurn(names []string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	had := map[string]int{} // by namespace, the names of it that were before
	turns := make(map[string]int, len(names))
	for _, name := range names {
		turn := len(names)
		for rule, rest, below := name, name, true; below; rule = "*." + rest {
			for namespace := range b.users[rule] {
				turn = min(turn, had[namespace])
				had[namespace]++
			}
			_, rest, below = strings.Cut(rest, ".")
		}
		turns[name] = turn
	}
	return slices.SortedStableFunc(slices.Values(names), func(a, b string) int { return cmp.Compare(turns[a], turns[b]) })
}

// stored answers what nodes were told.
func (b *Book) stored() map[string]*egressv1.DNSName {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[string]*egressv1.DNSName, len(b.told))
	for name, object := range b.told {
		all[name] = object
	}
	return all
}

// inherited answers the addresses that nodes were told for a name, by an earlier
// replica maybe. Those of a wildcard are not told apart, so a name below one
// inherits all of them: they leave when nobody remembers them.
func (b *Book) inherited(name string) []netip.Addr {
	b.mu.Lock()
	defer b.mu.Unlock()
	texts := slices.Clone(b.told[name].GetAddresses())
	for wildcard, members := range b.looked {
		if _, has := members[name]; has {
			texts = append(texts, b.told[wildcard].GetAddresses()...)
		}
	}
	var list []netip.Addr
	for _, text := range texts {
		if addr, err := netip.ParseAddr(text); err == nil {
			list = append(list, addr)
		}
	}
	return list
}

// members answers the names below a wildcard, in order, and those that nobody
// reported for too long.
func (b *Book) members(wildcard string, now time.Time) (alive, gone []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, at := range b.looked[wildcard] {
		if now.Sub(at) > store.MemberLife {
			gone = append(gone, name)
		} else {
			alive = append(alive, name)
		}
	}
	slices.Sort(alive)
	slices.Sort(gone)
	return alive, gone
}

// allMembers answers all names below a wildcard, in order.
func (b *Book) allMembers(wildcard string) []string {
	alive, gone := b.members(wildcard, time.Time{})
	return append(alive, gone...)
}
