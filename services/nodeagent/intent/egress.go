package intent

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/damask-sdn/damask/internal/egressmark"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// Kinds of egress whose progress is tracked.
const (
	// KindEgress is how the pods of a namespace leave the cluster: all its
	// EgressAssignments together. The object's name is the namespace's.
	KindEgress = "egress"
	// KindEgressPods is which pods a selection has; NAMESPACE/SELECTION.
	KindEgressPods = "egresspods"
	// KindEgressHosting is the egress IPs of this node; the node's name. It is
	// programmed when all of them are in force and all others are gone.
	KindEgressHosting = "egresshosting"
)

// defaultSelection is the assignment of all pods that no other selection takes.
const defaultSelection = "default"

const egressOwnerPrefix = "egress vnid "

func egressOwner(vnid uint32) string { return egressOwnerPrefix + strconv.FormatUint(uint64(vnid), 10) }

// egress is what is known of leaving the cluster.
//
// "Known to have no egress IPs" and "not known" are told apart by the map of
// namespaces: one that is known is there, with no selections when it has no
// egress IPs. A pod of one that is not there stays inside.
type egress struct {
	followed   bool
	reserved   egressmark.Reserved
	namespaces map[string][]selection
	pods       map[selectionKey][]netip.Addr // EgressPods, sorted
	hosted     map[netip.Addr]hosted
}

type selectionKey struct{ namespace, name string }

// selection is an assignment: where its pods leave.
type selection struct {
	name      string
	vnid      uint32
	hasVNID   bool
	addresses []assigned
}

// assigned is an address that some node has.
type assigned struct {
	ip   netip.Addr
	node string
	at   netip.Addr // The node's.
}

// hosted is an address that this node has, ready to be used.
type hosted struct {
	selectionKey
	vnid      uint32
	slot      uint32
	matchPods bool
}

func newEgress() egress {
	return egress{namespaces: map[string][]selection{}, pods: map[selectionKey][]netip.Addr{}, hosted: map[netip.Addr]hosted{}}
}

// FollowEgress says that somebody tells this state how namespaces leave. From
// then on the pods of a namespace of which that is not known are closed towards
// the world outside. Without it every pod leaves as its node does. It is called
// before there are pods. Reserved are the bits that marks must not have here.
func (s *State) FollowEgress(reserved egressmark.Reserved) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.egress.followed, s.egress.reserved = true, reserved
	s.revisions[Object{KindEgressHosting, s.self}] = 0
}

// SetEgress takes all EgressAssignments of a namespace, as of a revision. None: it is
// known to have no egress IPs, and its pods leave as their node does. An error leaves
// the state as it was.
func (s *State) SetEgress(namespace string, revision uint64, assignments []*egressv1.EgressAssignment) (Change, error) {
	object := Object{KindEgress, namespace}
	selections, err := parseAssignments(namespace, assignments)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revisions[object] = revision
	if err != nil {
		return Change{Objects: []Object{object}}, err
	}
	owners := s.egressIn(namespace)
	s.egress.namespaces[namespace] = selections
	return s.unsettle(Change{Owners: union(owners, s.egressIn(namespace), s.podsIn(namespace)), Objects: []Object{object}}), nil
}

// ForgetEgress says that it is not known any more how a namespace leaves. Its
// pods, if there are any, are closed.
func (s *State) ForgetEgress(namespace string) Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.egress.namespaces[namespace]; !known {
		return Change{}
	}
	owners := s.egressIn(namespace)
	delete(s.egress.namespaces, namespace)
	delete(s.revisions, Object{KindEgress, namespace})
	return s.unsettle(Change{Owners: union(owners, s.podsIn(namespace))})
}

// SetEgressPods takes the addresses of the pods of a selection; one without
// addresses is as one that is gone. An error leaves the state as it was.
func (s *State) SetEgressPods(list *egressv1.EgressPods) (Change, error) {
	key := selectionKey{list.GetNamespace(), list.GetSelection()}
	object := Object{KindEgressPods, key.namespace + "/" + key.name}
	var pods []netip.Addr
	for _, text := range list.GetPodIps() {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return Change{}, fmt.Errorf("EgressPods %s/%s: %w", key.namespace, key.name, err)
		}
		pods = append(pods, ip)
	}
	slices.SortFunc(pods, netip.Addr.Compare)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revisions[object] = list.GetRevision()
	if slices.Equal(s.egress.pods[key], pods) {
		return Change{Objects: []Object{object}}, nil
	}
	change := s.setPods(key, pods)
	change.Objects = []Object{object}
	return change, nil
}

// ForgetEgressPods forgets the pods of a selection that is gone, or not followed any
// more.
func (s *State) ForgetEgressPods(namespace, selection string) Change {
	key := selectionKey{namespace, selection}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.revisions, Object{KindEgressPods, namespace + "/" + selection})
	if _, known := s.egress.pods[key]; !known {
		return Change{}
	}
	return s.setPods(key, nil)
}

// setPods takes the sorted addresses of a selection. The caller holds the lock.
func (s *State) setPods(key selectionKey, pods []netip.Addr) Change {
	if len(pods) == 0 {
		delete(s.egress.pods, key)
	} else {
		s.egress.pods[key] = pods
	}
	owners := union(s.egressIn(key.namespace), s.podsIn(key.namespace))
	for _, h := range s.egress.hosted {
		if h.selectionKey == key {
			owners = union(owners, []string{egressOwner(h.vnid)})
		}
	}
	return s.unsettle(Change{Owners: owners})
}

// SetEgressHosting takes the addresses that this node has, as of a revision. Only
// those may be told that are ready: there, announced, and translated to by iptables.
// What is not told any more must stay ready until the change is in the switch.
func (s *State) SetEgressHosting(revision uint64, addresses []*egressv1.HostedAddress) (Change, error) {
	all := map[netip.Addr]hosted{}
	for _, a := range addresses {
		ip, err := netip.ParseAddr(a.GetIp())
		if err != nil {
			return Change{}, fmt.Errorf("hosted egress IP: %w", err)
		}
		all[ip] = hosted{selectionKey{a.GetNamespace(), a.GetSelection()}, a.GetNetid(), a.GetSlot(), a.GetMatchPods()}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var owners []string
	for ip, was := range s.egress.hosted {
		if all[ip] != was {
			owners = union(owners, []string{egressOwner(was.vnid)}, s.egressIn(was.namespace))
		}
	}
	for ip, is := range all {
		if was, had := s.egress.hosted[ip]; !had || was != is {
			owners = union(owners, []string{egressOwner(is.vnid)}, s.egressIn(is.namespace))
		}
	}
	s.egress.hosted = all
	object := Object{KindEgressHosting, s.self}
	s.revisions[object] = revision
	return s.unsettle(Change{Owners: owners, Objects: []Object{object}}), nil
}

// parseAssignments answers the selections, in the order in which a pod is matched,
// with the addresses that can be used.
func parseAssignments(namespace string, assignments []*egressv1.EgressAssignment) ([]selection, error) {
	ordered := slices.SortedFunc(slices.Values(assignments), func(a, b *egressv1.EgressAssignment) int {
		return int(a.GetOrder()) - int(b.GetOrder())
	})
	var all []selection
	for _, a := range ordered {
		sel := selection{name: a.GetSelection(), vnid: a.GetNetid(), hasVNID: a.Netid != nil}
		for _, address := range a.GetAddresses() {
			if address.GetState() != egressv1.AddressState_ADDRESS_STATE_HOSTED {
				continue
			}
			ip, err := netip.ParseAddr(address.GetIp())
			if err != nil {
				return nil, fmt.Errorf("egress IP of namespace %s: %w", namespace, err)
			}
			at, err := netip.ParseAddr(address.GetNodeIp())
			if err != nil {
				return nil, fmt.Errorf("node of egress IP %s of namespace %s: %w", ip, namespace, err)
			}
			sel.addresses = append(sel.addresses, assigned{ip: ip, node: address.GetNode(), at: at})
		}
		all = append(all, sel)
	}
	return all, nil
}

// podsIn are the owners of a namespace's pods. The caller holds the lock.
func (s *State) podsIn(namespace string) []string {
	var owners []string
	for owner, pod := range s.pods {
		if pod.Namespace == namespace {
			owners = append(owners, owner)
		}
	}
	return owners
}

// egressIn is the owner of a namespace's egress, if there are such flows. The
// caller holds the lock.
func (s *State) egressIn(namespace string) []string {
	vnid, known := s.namespaces[namespace]
	if !known {
		return nil
	}
	return s.egressOf(vnid)
}

// egressOf is the owner of a VNID's egress, if there are such flows: most VNIDs
// have none, and their pods must not wait for one another because of it. The
// caller holds the lock.
func (s *State) egressOf(vnid uint32) []string {
	for namespace, selections := range s.egress.namespaces {
		if of, known := s.namespaces[namespace]; known && of == vnid && len(selections) > 0 {
			return []string{egressOwner(vnid)}
		}
	}
	for _, h := range s.egress.hosted {
		if h.vnid == vnid {
			return []string{egressOwner(vnid)}
		}
	}
	return nil
}

func union(lists ...[]string) []string {
	all := slices.Concat(lists...)
	slices.Sort(all)
	return slices.Compact(all)
}
