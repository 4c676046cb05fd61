package intent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/internal/policy/policywire"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
	"github.com/damask-sdn/damask/services/nodeagent/policyflow"
)

// Kinds of what policies come down to. Their names are those on the change bus.
const (
	KindPolicy       = policywire.KindPolicy
	KindAddressGroup = policywire.KindAddressGroup
	KindPodPolicies  = policywire.KindPodPolicies
)

// policies is what is known of policies. It is followed in every mode, so that
// it is there when the mode changes to one in which policies decide.
type policies struct {
	book    *policyflow.Book
	base    pipeline.Fragment // What its tables have without policies.
	groups  *policywire.Gathered
	placed  map[string]policywire.Placed // By namespace/name.
	assumed map[string]string            // Sandboxes whose policies are those of another pod, by namespace/name.
	keep    bool                         // Connections go on that policies forbid.
	outside map[string]OutsideService    // Ports of services with backends that are no pods.

	open    map[string]bool        // Owners of pods that are.
	pending map[Object]func() bool // What was set and is not in force yet: whether it is now.
	inForce map[Object]uint64      // The revision of what is.
	changed chan struct{}          // Closed and replaced when pods opened.
}

func newPolicies() policies {
	return policies{
		book: policyflow.NewInPipeline(), base: policyflow.Tables().Base(), groups: policywire.NewGathered(), placed: map[string]policywire.Placed{},
		assumed: map[string]string{}, open: map[string]bool{}, pending: map[Object]func() bool{}, inForce: map[Object]uint64{},
		outside: map[string]OutsideService{}, changed: make(chan struct{}),
	}
}

// KeepConnections says whether connections go on that policies forbid after they
// have let them pass.
func (s *State) KeepConnections(keep bool) Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.policies.keep == keep {
		return Change{}
	}
	s.policies.keep = keep
	return Change{Owners: []string{baseOwner}}
}

// SetPolicy takes a policy. It comes into force when all groups that it names
// are known; what it was before holds until then. An error leaves it as it was.
func (s *State) SetPolicy(m *tenancyv1.ResolvedPolicy) (Change, error) {
	object := Object{KindPolicy, policywire.NameOfPolicy(m)}
	p, err := policywire.ReadPolicy(m)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revisions[object] = m.GetRevision()
	if err == nil {
		err = s.policies.book.SetPolicy(p)
	}
	if err != nil {
		delete(s.policies.pending, object)
		return Change{Objects: []Object{object}}, err
	}
	s.policies.pending[object] = func() bool { return s.policies.book.HasPolicy(p.Key) }
	return s.policyChange(), nil
}

// DeletePolicy forgets a policy, because it is gone or no pod of this node lists
// it any more.
func (s *State) DeletePolicy(name string) Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, err := policywire.ParsePolicyName(name)
	if err != nil {
		return Change{} // Nothing of that name was ever set.
	}
	s.policies.book.DeletePolicy(key)
	s.forgetPolicyObject(Object{KindPolicy, name})
	return s.policyChange()
}

// SetAddressGroupShard takes a part of a group. An error leaves it as it was.
func (s *State) SetAddressGroupShard(m *tenancyv1.AddressGroupShard) (Change, error) {
	object := Object{KindAddressGroup, policywire.NameOfShard(m)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revisions[object] = m.GetRevision()
	move, err := s.policies.groups.Set(m)
	if err != nil {
		return Change{Objects: []Object{object}}, err
	}
	s.moveGroup(move)
	s.policies.pending[object] = func() bool { return s.policies.book.HasGroup(move.ID) }
	return s.policyChange(), nil
}

// DeleteAddressGroupShard forgets a part of a group.
func (s *State) DeleteAddressGroupShard(name string) Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	move, err := s.policies.groups.Delete(name)
	if err != nil {
		return Change{}
	}
	s.moveGroup(move)
	s.forgetPolicyObject(Object{KindAddressGroup, name})
	return s.policyChange()
}

// ForgetAddressGroup forgets a group that no policy of this node names any more.
func (s *State) ForgetAddressGroup(id string) Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.policies.groups.Forget(policy.GroupID(id))
	s.policies.book.DeleteGroup(policy.GroupID(id))
	for object := range s.revisions {
		if of, _, err := policywire.ParseShardName(object.Name); object.Kind == KindAddressGroup && err == nil && of == policy.GroupID(id) {
			s.forgetPolicyObject(object)
		}
	}
	return s.policyChange()
}

// moveGroup tells the book. The caller holds the lock.
func (s *State) moveGroup(m policywire.Move) {
	switch {
	case m.Gone:
		s.policies.book.DeleteGroup(m.ID)
	case m.First:
		s.policies.book.SetGroup(m.ID, m.Added)
	case m.Known:
		s.policies.book.MoveGroup(m.ID, m.Added, m.Removed)
	}
}

// SetPodPolicies takes which policies apply to a pod. An error leaves it as it was.
func (s *State) SetPodPolicies(m *tenancyv1.PodPolicies) (Change, error) {
	object := Object{KindPodPolicies, policywire.NameOfPod(m)}
	placed, err := policywire.ReadPodPolicies(m)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revisions[object] = m.GetRevision()
	if err != nil {
		return Change{Objects: []Object{object}}, err
	}
	name := placed.Pod.Namespace + "/" + placed.Pod.Name
	s.policies.placed[name] = placed
	delete(s.policies.assumed, name)
	s.aim(placed.Pod.Namespace, placed.Pod.Name)
	s.policies.pending[object] = func() bool {
		// Nothing is to be done for a pod that is not here yet.
		return !s.policies.book.Has(placed.Pod.Namespace, placed.Pod.Name) ||
			s.policies.book.HasPod(placed.Pod.Namespace, placed.Pod.Name)
	}
	return s.policyChange(), nil
}

// DeletePodPolicies says that a pod is not in the registry any more, or has
// completed: it is closed.
func (s *State) DeletePodPolicies(namespace, name string) Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.policies.placed, namespace+"/"+name)
	s.aim(namespace, name)
	s.forgetPolicyObject(Object{KindPodPolicies, s.self + "/" + namespace + "/" + name})
	return s.policyChange()
}

// AssumePolicies gives a pod the policies of another pod of its namespace until
// its own are known.
func (s *State) AssumePolicies(p Pod, ports []policy.NamedPort, as string) (Change, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	other, known := s.policies.placed[p.Namespace+"/"+as]
	if !known {
		return Change{}, fmt.Errorf("assume the policies of pod %s/%s for %s: they are not known", p.Namespace, as, p.Name)
	}
	name := p.Namespace + "/" + p.Name
	s.policies.placed[name] = policywire.Placed{Node: s.self, Sandbox: p.Sandbox, Pod: policy.Pod{
		Namespace: p.Namespace, Name: p.Name, Ports: ports, Policies: other.Pod.Policies,
	}}
	s.policies.assumed[name] = p.Sandbox
	s.aim(p.Namespace, p.Name)
	return s.policyChange(), nil
}

// aim tells the book what applies to a pod: nothing to one that is not here, or
// to another sandbox than the one that its policies name. The caller holds the lock.
func (s *State) aim(namespace, name string) {
	placed, known := s.policies.placed[namespace+"/"+name]
	p := placed.Pod
	p.Addresses = nil
	for _, pod := range s.pods {
		if known && pod.Namespace == namespace && pod.Name == name && pod.Sandbox == placed.Sandbox {
			p.Addresses = append(p.Addresses, pod.IP)
		}
	}
	if len(p.Addresses) == 0 {
		s.policies.book.DeletePod(namespace, name)
		return
	}
	slices.SortFunc(p.Addresses, netip.Addr.Compare)
	s.policies.book.SetPod(p)
}

// policyChange answers what is different since the last time: policies' own flows,
// which the book knows, and pods that opened or closed. The caller holds the lock.
func (s *State) policyChange() Change {
	change := Change{Policies: true}
	s.decisions.version++
	for owner, pod := range s.pods {
		switch open := s.policiesIn(pod); {
		case open == s.policies.open[owner]:
			continue
		case open:
			s.policies.open[owner] = true
		default:
			delete(s.policies.open, owner)
		}
		change.Owners = append(change.Owners, owner)
	}
	for object, done := range s.policies.pending {
		if done() {
			delete(s.policies.pending, object)
			s.policies.inForce[object] = s.revisions[object]
			change.Objects = append(change.Objects, object)
		}
	}
	if len(change.Owners) > 0 {
		close(s.policies.changed)
		s.policies.changed = make(chan struct{})
	}
	if !s.mode.Policies() {
		return change
	}
	if len(s.policies.outside) > 0 {
		change.Owners = append(change.Owners, s.outsideOwners()...)
	}
	// Whoever opens a pod sends what its policies forbid as well.
	return s.unsettle(change)
}

func (s *State) forgetPolicyObject(o Object) {
	delete(s.revisions, o)
	delete(s.policies.pending, o)
	delete(s.policies.inForce, o)
}

// policiesIn says whether what applies to a pod is in force. The caller holds the lock.
func (s *State) policiesIn(pod Pod) bool {
	placed, known := s.policies.placed[pod.Namespace+"/"+pod.Name]
	return known && placed.Sandbox == pod.Sandbox && s.policies.book.IsOpen(pod.Namespace, pod.Name)
}

// closedByPolicies says whether a pod must have no flows: where policies decide, and
// not all that apply to it are in force. The caller holds the lock.
func (s *State) closedByPolicies(pod Pod) bool { return s.mode.Policies() && !s.policiesIn(pod) }

// PoliciesDecide says whether the mode is one in which they do.
func (s *State) PoliciesDecide() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.modeKnown && s.mode.Policies()
}

// ErrPolicies is what AwaitPolicies answers when a pod's policies did not come.
var ErrPolicies = errors.New("the policies of the pod are not in force")

// AwaitPolicies answers when a pod is not closed for want of its policies.
func (s *State) AwaitPolicies(ctx context.Context, pod Pod) error {
	for {
		s.mu.RLock()
		closed, changed := s.closedByPolicies(pod), s.policies.changed
		missing := s.policies.book.Missing(pod.Namespace, pod.Name)
		s.mu.RUnlock()
		if !closed {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w: %v: %w", ErrPolicies, missing, ctx.Err())
		}
	}
}

// ClosedByPolicies names the pods that are closed because their policies are not in
// force, and why.
func (s *State) ClosedByPolicies() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var closed []string
	for _, pod := range s.pods {
		if s.modeKnown && s.closedByPolicies(pod) {
			closed = append(closed, "the policies of pod "+pod.Namespace+"/"+pod.Name)
		}
	}
	slices.Sort(closed)
	return slices.Compact(closed)
}

// WantedPolicies answers the names of the policies that pods of this node list.
func (s *State) WantedPolicies() map[string]struct{} {
	s.mu.RLock()
	defer s.mu.RUnlock()
	names := map[string]struct{}{}
	for key := range s.policies.book.Listed() {
		names[policywire.PolicyName(key)] = struct{}{}
	}
	return names
}

// WantedGroups answers the ids of the groups that policies of this node name.
func (s *State) WantedGroups() map[string]struct{} {
	s.mu.RLock()
	defer s.mu.RUnlock()
	ids := map[string]struct{}{}
	for id := range s.policies.book.Named() {
		ids[string(id)] = struct{}{}
	}
	return ids
}

// compilePolicies answers a fragment of the book; false if the owner is none of its.
// The caller holds the lock.
func (s *State) compilePolicies(owner string) ([]openflow.Flow, bool) {
	if !s.mode.Policies() {
		return nil, false
	}
	if strings.HasPrefix(owner, outsideOwner) {
		return s.compileOutside(owner), true
	}
	if owner == s.policies.base.Owner {
		return s.policies.base.Flows, true
	}
	flows := s.policies.book.Flows(owner)
	return flows, len(flows) > 0
}

// policyOwners are the owners of all fragments of policies. The caller holds the lock.
func (s *State) policyOwners() []string {
	if !s.mode.Policies() {
		return nil
	}
	return append(append(s.policies.book.Owners(), s.outsideOwners()...), s.policies.base.Owner)
}

// policyFlows counts the flows that a policy uses in the switch.
func (s *State) policyFlows(name string) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	key, err := policywire.ParsePolicyName(name)
	if err != nil || !s.mode.Policies() {
		return 0
	}
	return s.policies.book.FlowsOf(key)
}

// crowdedPolicies says of policies, by name, why they let nothing pass.
func (s *State) crowdedPolicies() map[string]string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.mode.Policies() {
		return nil
	}
	crowded := map[string]string{}
	for key, why := range s.policies.book.Crowded() {
		crowded[policywire.PolicyName(key)] = why
	}
	return crowded
}

// attainable answers the revision of an object that is in force once its flows are. For
// most it is the wanted one; a policy may wait for a group, and a pod for a policy.
func (s *State) attainable(o Object) (uint64, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	switch o.Kind {
	case KindPolicy, KindAddressGroup, KindPodPolicies:
		r, ok := s.policies.inForce[o]
		return r, ok
	}
	r, ok := s.revisions[o]
	return r, ok
}

// attainables answers the same of every object.
func (s *State) attainables() map[Object]uint64 {
	all := s.Objects()
	for o := range all {
		r, ok := s.attainable(o)
		if all[o] = r; !ok {
			delete(all, o)
		}
	}
	return all
}

// modeOf reads an isolation mode.
func modeOf(m tenancyv1.IsolationMode) (pipeline.Mode, error) {
	switch m {
	case tenancyv1.IsolationMode_ISOLATION_MODE_SUBNET:
		return pipeline.Subnet, nil
	case tenancyv1.IsolationMode_ISOLATION_MODE_MULTITENANT:
		return pipeline.Multitenant, nil
	case tenancyv1.IsolationMode_ISOLATION_MODE_NETWORKPOLICY:
		return pipeline.NetworkPolicy, nil
	case tenancyv1.IsolationMode_ISOLATION_MODE_COMBINED:
		return pipeline.Combined, nil
	}
	return 0, fmt.Errorf("isolation mode %s is not known to this agent", m)
}
