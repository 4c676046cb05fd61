package svcsync

import (
	"cmp"
	"errors"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/damask-sdn/damask/internal/serviceview"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// header is what the ledger needs of a service beside its view.
type header struct {
	revision uint64
	idled    bool
}

// plan is what one service has on this node, once it is settled who has which address.
type plan struct {
	keys      []proxy.Key // of its entries in the engine
	frontends []Frontend  // held for it, while it is idle
	opening   Opening
	health    uint16 // its health-check node port; 0: none
	ready     int    // endpoints on this node that are ready
	err       error  // why it has less than it wants
}

// ledger is what should be: pure, without any idea of what is. The same services and
// slices give the same answer, but for who had an external IP first (see claims).
type ledger struct {
	node    serviceview.Node
	hosts   hosts
	holds   bool // somebody holds connections to idle services
	book    *serviceview.Book
	headers map[serviceview.Name]header
	wishes  map[serviceview.Name]wish
	plans   map[serviceview.Name]plan
	claims  claims
	// state is for the engine. touched are the keys that it has to hear of.
	state    proxy.State
	touched  map[proxy.Key]bool
	backends int // in state
}

func newLedger(node serviceview.Node, of hosts, holds bool) *ledger {
	return &ledger{
		node: node, hosts: of, holds: holds, book: serviceview.NewBook(),
		headers: map[serviceview.Name]header{}, wishes: map[serviceview.Name]wish{}, plans: map[serviceview.Name]plan{},
		claims: newClaims(), state: proxy.State{}, touched: map[proxy.Key]bool{},
	}
}

// setService takes a service's new state over.
func (l *ledger) setService(s *servicelbv1.Service) serviceview.Name {
	name := l.book.SetService(s)
	_, idled := s.GetAnnotations()[IdledAt]
	l.headers[name] = header{revision: s.GetRevision(), idled: idled && l.holds}
	return name
}

// deleteService forgets a service.
func (l *ledger) deleteService(name serviceview.Name) {
	l.book.DeleteService(name)
	delete(l.headers, name)
}

// settle works out anew what the services named have, and answers them with all others
// that are concerned, because an address went from one to the other.
func (l *ledger) settle(names []serviceview.Name) []serviceview.Name {
	// The order in which services come must not decide who has an address.
	names = slices.SortedFunc(slices.Values(names), func(a, b serviceview.Name) int {
		return cmp.Or(cmp.Compare(l.headers[a].revision, l.headers[b].revision), compareNames(a, b))
	})
	concerned := map[serviceview.Name]bool{}
	for _, name := range slices.Compact(names) {
		concerned[name] = true
		for _, other := range l.wish(name) {
			concerned[serviceview.Name{Namespace: other.Namespace, Service: other.Name}] = true
		}
	}
	all := slices.SortedFunc(maps.Keys(concerned), compareNames)
	for _, name := range all {
		l.share(name)
	}
	return all
}

// wish translates a service and claims what it wants. It answers the entries of others
// that are concerned. A service that cannot be read keeps its last wish.
func (l *ledger) wish(name serviceview.Name) (others []proxy.Key) {
	view, exists, err := l.book.View(name, l.node)
	before := l.wishes[name]
	if err != nil {
		before.unreadable = err
		l.wishes[name] = before
		return nil
	}
	var now wish
	if exists {
		now = translate(view, l.headers[name].idled, l.hosts)
		l.wishes[name] = now
	} else {
		delete(l.wishes, name)
	}
	there := map[proxy.Key]bool{}
	for _, e := range now.entries {
		there[e.Key] = true
	}
	for _, e := range before.entries {
		if !there[e.Key] {
			others = append(others, l.claims.set(e.Key, 0, nil)...)
		}
	}
	for _, e := range now.entries {
		others = append(others, l.claims.set(e.Key, l.headers[name].revision, frontendsWanted(e))...)
	}
	return others
}

// share works out what a service has of what it wants.
func (l *ledger) share(name serviceview.Name) {
	before := l.plans[name]
	w, exists := l.wishes[name]
	now := plan{ready: w.localReady, opening: Opening{Service: name}}
	problems := slices.Clone(w.problems)
	if w.unreadable != nil {
		problems = append(problems, w.unreadable.Error())
	}
	for _, wanted := range w.entries {
		e, lost := l.claims.share(wanted)
		problems = append(problems, lost...)
		now.keys = append(now.keys, e.Key)
		l.put(e)
		if e.HealthCheckNodePort != 0 {
			now.health = e.HealthCheckNodePort
		}
		if w.idle {
			now.frontends = append(now.frontends, frontendsOf(e)...)
		}
		now.opening.add(e)
	}
	for _, key := range before.keys {
		if !slices.Contains(now.keys, key) {
			l.drop(key)
		}
	}
	if len(problems) > 0 {
		now.err = errors.New(strings.Join(problems, "; "))
	}
	if !exists {
		delete(l.plans, name)
		return
	}
	l.plans[name] = now
}

// put gives the engine an entry, if it is not the one that it has.
func (l *ledger) put(e proxy.Service) {
	old, there := l.state[e.Key]
	if there && reflect.DeepEqual(old, e) {
		return
	}
	l.backends += countOf(e) - countOf(old)
	l.state[e.Key] = e
	l.touched[e.Key] = true
}

// countOf is how many backends an entry has, in all its lists.
func countOf(e proxy.Service) int {
	return len(e.ClusterBackends) + len(e.OwnBackends) + len(e.ExternalBackends)
}

// drop takes an entry from the engine.
func (l *ledger) drop(key proxy.Key) {
	old, there := l.state[key]
	if !there {
		return
	}
	l.backends -= countOf(old)
	delete(l.state, key)
	l.touched[key] = true
}

// changes are what the engine has to hear, in the order of keys.
func (l *ledger) changes() []proxy.Change {
	all := make([]proxy.Change, 0, len(l.touched))
	for _, key := range slices.SortedFunc(maps.Keys(l.touched), proxy.Key.Compare) {
		change := proxy.Change{Key: key}
		if e, there := l.state[key]; there {
			change.Service = &e
		}
		all = append(all, change)
	}
	return all
}

// told forgets what the engine had to hear: it has heard it.
func (l *ledger) told() { clear(l.touched) }

func compareNames(a, b serviceview.Name) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Service, b.Service))
}

// Opening is what the switch has to know of a service: what pods send there goes to
// the node's kernel, or to another node, if their tenant may.
type Opening struct {
	// Service is whose it is.
	Service serviceview.Name
	// ClusterIPs are its addresses, without those that another service has.
	ClusterIPs []netip.Addr
	// Ports are what it offers there.
	Ports []OpenPort
	// NodePorts are its node ports, without those that another service has.
	NodePorts []OpenPort
}

// OpenPort is one port of an opening.
type OpenPort struct {
	// Protocol is that of the port.
	Protocol proxy.Protocol
	// Port is 1 to 65535.
	Port uint16
}

// add opens an entry's node port and cluster IPs. All ports of a service have the same
// cluster IPs, but where one of them has lost an address none of them is opened there by
// it.
func (o *Opening) add(e proxy.Service) {
	if e.NodePort != 0 {
		o.NodePorts = append(o.NodePorts, OpenPort{e.Protocol, e.NodePort})
	}
	if len(e.ClusterIPs) == 0 {
		return
	}
	if len(o.ClusterIPs) == 0 {
		o.ClusterIPs = e.ClusterIPs
	}
	if slices.Equal(o.ClusterIPs, e.ClusterIPs) {
		o.Ports = append(o.Ports, OpenPort{e.Protocol, e.Port})
	}
}

// empty says that there is nothing to open.
func (o Opening) empty() bool { return len(o.Ports)+len(o.NodePorts) == 0 }

// equal says that two openings are the same.
func (o Opening) equal(other Opening) bool {
	return slices.Equal(o.ClusterIPs, other.ClusterIPs) && slices.Equal(o.Ports, other.Ports) &&
		slices.Equal(o.NodePorts, other.NodePorts)
}
