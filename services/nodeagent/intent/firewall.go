package intent

import (
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// Kinds of firewalls whose progress is tracked.
const (
	// KindFirewall is where the pods of a namespace may go: all its
	// EgressNetworkPolicies together. The object's name is the namespace's.
	KindFirewall = "egressfirewall"
	// KindDNSName is the addresses of a name in rules.
	KindDNSName = "dnsname"
)

const firewallOwnerPrefix = "firewall "

func firewallOwner(namespace string) string { return firewallOwnerPrefix + namespace }

// FirewallOf answers whose firewall a fragment is, by its owner.
func FirewallOf(owner string) (namespace string, is bool) {
	return strings.CutPrefix(owner, firewallOwnerPrefix)
}

// firewalls is what is known of where pods may go.
//
// A namespace that is not there is not known, and its pods stay inside; one without
// rules has no firewall. Rules that name a name of which nothing is known yet wait,
// and those before them stay in force: a rule that denies a name must not be open
// because its addresses are late.
type firewalls struct {
	followed   bool
	namespaces map[string]*firewall
	names      map[string][]netip.Prefix // what names resolve to, perhaps nothing yet
	numbers    map[string]uint32         // of the namespaces that have rules in force
	idle       map[string]struct{}       // namespaces of which nothing leaves by this node
	resolvers  []netip.AddrPort          // whose answers tell which names there are below a wildcard
	changed    chan struct{}             // holds one when FirewallNames may answer something else
}

// firewall is that of a namespace.
type firewall struct {
	inForce  []firewallRule // known says whether this counts
	known    bool
	revision uint64         // of inForce
	waiting  []firewallRule // nil: nothing waits
	until    uint64         // the revision of waiting
	compiled *compiledFirewall
}

// compiledFirewall is flows that are made when they are first asked for.
type compiledFirewall struct {
	once  sync.Once
	what  pipeline.Firewall
	flows []openflow.Flow
}

func (c *compiledFirewall) get() []openflow.Flow {
	c.once.Do(func() { c.flows = pipeline.FirewallFragment(c.what).Flows })
	return c.flows
}

// firewallRule is a rule to a network, or to a name.
type firewallRule struct {
	allow bool
	to    netip.Prefix
	name  string
	ports []pipeline.FirewallPorts
}

func newFirewalls() firewalls {
	return firewalls{
		namespaces: map[string]*firewall{}, names: map[string][]netip.Prefix{}, numbers: map[string]uint32{}, idle: map[string]struct{}{},
		changed: make(chan struct{}, 1),
	}
}

// FollowFirewalls says that somebody tells this state where pods may go. From then on
// the pods of a namespace of which that is not known are closed towards the world
// outside. It is called before there are pods.
func (s *State) FollowFirewalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.firewalls.followed = true
}

// SetFirewall takes all EgressNetworkPolicies of a namespace, as of a revision. None: it
// is known to have no firewall. If the rules have names that are not known yet, the
// earlier rules stay in force, or the pods closed, until SetDNSName has told all of
// them. An error leaves the state as it was.
func (s *State) SetFirewall(namespace string, revision uint64, policies []*egressv1.EgressNetworkPolicy) (Change, error) {
	object := Object{KindFirewall, namespace}
	rules, err := parsePolicies(policies)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		return Change{Objects: []Object{object}}, err
	}
	f := s.firewalls.namespaces[namespace]
	if f == nil {
		f = &firewall{}
		s.firewalls.namespaces[namespace] = f
	}
	if _, tracked := s.revisions[object]; !tracked {
		s.revisions[object] = 0
	}
	f.waiting, f.until = rules, revision
	s.firewalls.tell()
	return s.enforce(namespace, f), nil
}

// SetFirewallIdle says whether a namespace's firewall is here for MayLeave alone: no pod of it
// leaves by this node, so the switch has no use for its rules. None is idle at first.
func (s *State) SetFirewallIdle(namespace string, idle bool) Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, was := s.firewalls.idle[namespace]; was == idle {
		return Change{}
	}
	if idle {
		s.firewalls.idle[namespace] = struct{}{}
	} else {
		delete(s.firewalls.idle, namespace)
	}
	return Change{Owners: []string{firewallOwner(namespace)}}
}

// ForgetFirewall says that it is not known any more where the pods of a namespace may
// go. If there are any, they are closed.
func (s *State) ForgetFirewall(namespace string) Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.firewalls.namespaces[namespace] == nil {
		return Change{}
	}
	delete(s.firewalls.namespaces, namespace)
	delete(s.revisions, Object{KindFirewall, namespace})
	s.firewalls.tell()
	return Change{Owners: union([]string{firewallOwner(namespace)}, s.judgedBy(namespace), s.renumber())}
}

// SetDNSName takes the addresses of a name. One that has not been looked up yet is not
// known. An error leaves the state as it was.
func (s *State) SetDNSName(name *egressv1.DNSName) (Change, error) {
	object := Object{KindDNSName, name.GetName()}
	addresses := []netip.Prefix{}
	for _, text := range name.GetAddresses() {
		ip, err := netip.ParseAddr(text)
		if err != nil || !ip.Is4() {
			return Change{Objects: []Object{object}}, fmt.Errorf("addresses of %s: %q is no IPv4 address", name.GetName(), text)
		}
		addresses = append(addresses, netip.PrefixFrom(ip, 32))
	}
	slices.SortFunc(addresses, netip.Prefix.Compare)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revisions[object] = name.GetRevision()
	if lookingUp(name) {
		return Change{Objects: []Object{object}}, nil
	}
	was, known := s.firewalls.names[name.GetName()]
	s.firewalls.names[name.GetName()] = addresses
	change := Change{Objects: []Object{object}}
	if known && slices.Equal(was, addresses) {
		return change, nil
	}
	for namespace, f := range s.firewalls.namespaces {
		if f.known && mentions(f.inForce, name.GetName()) {
			s.compileFirewall(namespace, f)
			change.Owners = append(change.Owners, firewallOwner(namespace))
		}
		if f.waiting != nil && mentions(f.waiting, name.GetName()) {
			c := s.enforce(namespace, f)
			change.Owners, change.Objects = union(change.Owners, c.Owners), append(change.Objects, c.Objects...)
		}
	}
	return change, nil
}

// lookingUp says whether a name's first look-up has not ended yet.
func lookingUp(name *egressv1.DNSName) bool {
	return name.GetState() == egressv1.NameState_NAME_STATE_UNRESOLVED && name.GetError() == "" && !isWildcard(name.GetName())
}

// ForgetDNSName forgets a name that no rule has any more. Whoever has it in
// rules that are in force keeps its last addresses.
func (s *State) ForgetDNSName(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.revisions, Object{KindDNSName, name})
	for _, f := range s.firewalls.namespaces {
		if mentions(f.inForce, name) {
			return
		}
	}
	delete(s.firewalls.names, name)
}

// FirewallNames answers the names that rules have, sorted, so that somebody follows them.
func (s *State) FirewallNames() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	names := map[string]struct{}{}
	for _, f := range s.firewalls.namespaces {
		for _, r := range slices.Concat(f.inForce, f.waiting) {
			if r.name != "" {
				names[r.name] = struct{}{}
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// FirewallNamesChanged holds a token whenever FirewallNames may answer something else
// than when the last token was taken. It is for one reader.
func (s *State) FirewallNamesChanged() <-chan struct{} { return s.firewalls.changed }

// tell puts a token.
func (f *firewalls) tell() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// enforce puts waiting rules into force if all their names are known. The caller holds
// the lock.
func (s *State) enforce(namespace string, f *firewall) Change {
	for _, r := range f.waiting {
		if _, known := s.firewalls.names[r.name]; r.name != "" && !known {
			return Change{}
		}
	}
	object := Object{KindFirewall, namespace}
	was, asked := s.firewall(namespace), s.resolvers(namespace)
	f.inForce, f.known, f.revision, f.waiting = f.waiting, true, f.until, nil
	s.revisions[object] = f.revision
	s.firewalls.tell()
	change := Change{Owners: union([]string{firewallOwner(namespace)}, s.renumber()), Objects: []Object{object}}
	s.compileFirewall(namespace, f)
	if s.firewall(namespace) != was || len(s.resolvers(namespace)) != len(asked) {
		change.Owners = union(change.Owners, s.judgedBy(namespace))
	}
	return change
}

// renumber gives each firewall that is in force its number, and answers whose others
// have changed. A number is made of the namespace's name, so that it is the same after a
// restart; of two that have the same the second by name gets the next. The caller
// holds the lock.
func (s *State) renumber() []string {
	numbers, taken := map[string]uint32{}, map[uint32]bool{pipeline.UnknownFirewall: true}
	for _, namespace := range slices.Sorted(maps.Keys(s.firewalls.namespaces)) {
		if f := s.firewalls.namespaces[namespace]; !f.known || len(f.inForce) == 0 {
			continue
		}
		h := fnv.New32a()
		_, _ = h.Write([]byte(namespace)) // a hash never fails
		number := h.Sum32() | pipeline.FirstFirewall
		for taken[number] {
			number = (number + 1) | pipeline.FirstFirewall
		}
		numbers[namespace], taken[number] = number, true
	}
	before := s.firewalls.numbers
	s.firewalls.numbers = numbers
	var owners []string
	for namespace, number := range numbers {
		if was, had := before[namespace]; had && was != number {
			s.compileFirewall(namespace, s.firewalls.namespaces[namespace])
			owners = union(owners, []string{firewallOwner(namespace)}, s.judgedBy(namespace))
		}
	}
	return owners
}

// compileFirewall prepares the flows of rules that are in force. The caller holds the lock.
func (s *State) compileFirewall(namespace string, f *firewall) {
	what := pipeline.Firewall{Namespace: namespace, Number: s.firewalls.numbers[namespace]}
	for _, r := range f.inForce {
		to := []netip.Prefix{r.to}
		if r.name != "" {
			to = s.firewalls.names[r.name]
		}
		what.Rules = append(what.Rules, pipeline.FirewallRule{Allow: r.allow, To: to, Ports: r.ports})
	}
	f.compiled = &compiledFirewall{what: what}
}

// firewall is the number of whose firewall judges a namespace's pods. The caller holds
// the lock.
func (s *State) firewall(namespace string) uint32 {
	f := s.firewalls.namespaces[namespace]
	switch {
	case !s.firewalls.followed:
		return pipeline.NoFirewall
	case f == nil || !f.known:
		return pipeline.UnknownFirewall
	}
	return s.firewalls.numbers[namespace] // none without rules
}

// firewallFlows are the rules of a namespace that are in force. The caller holds the lock.
func (s *State) firewallFlows(namespace string) []openflow.Flow {
	f := s.firewalls.namespaces[namespace]
	if _, idle := s.firewalls.idle[namespace]; idle || f == nil || f.compiled == nil || len(f.inForce) == 0 {
		return nil
	}
	return f.compiled.get()
}

// judgedBy are the fragments that have a namespace's number: those of its pods, and of
// the VNIDs for which this node holds its egress IPs. The caller holds the lock.
func (s *State) judgedBy(namespace string) []string {
	owners := s.podsIn(namespace)
	for _, h := range s.egress.hosted {
		if h.namespace == namespace {
			owners = union(owners, []string{egressOwner(h.vnid)})
		}
	}
	return owners
}

func mentions(rules []firewallRule, name string) bool {
	return slices.ContainsFunc(rules, func(r firewallRule) bool { return r.name == name })
}
