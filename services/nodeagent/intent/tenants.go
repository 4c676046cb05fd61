package intent

import (
	"context"
	"fmt"
	"slices"
	"strings"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// SetNetNamespace takes a namespace's VNID, whether it has multicast, and what of policies it
// wants logged. All its pods
// and services move at once.
func (s *State) SetNetNamespace(nn *tenancyv1.NetNamespace) Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := nn.GetName()
	object := Object{KindNetNamespace, name}
	s.revisions[object] = nn.GetRevision()
	was, known := s.namespaces[name]
	multicast := s.multicast[name]
	before, flooding := union(s.egressIn(name), s.multicastIn(name)), s.flooding()
	s.namespaces[name] = nn.GetNetid()
	s.setMulticast(name, nn.GetMulticastEnabled())
	logs := s.setLogging(nn)
	if !known {
		close(s.changed)
		s.changed = make(chan struct{})
	}
	if known && was == nn.GetNetid() {
		if nn.GetMulticastEnabled() == multicast {
			return Change{Objects: []Object{object}, Policies: logs}
		}
		return Change{Owners: union(s.multicastOf(was), s.floodChange(flooding)), Objects: []Object{object}, Policies: logs}
	}
	change := Change{Objects: []Object{object}, Policies: logs}
	for owner, pod := range s.pods {
		if pod.Namespace != name {
			continue
		}
		if known {
			s.leave(was)
		}
		s.users[nn.GetNetid()]++
		change.Owners = append(change.Owners, owner)
	}
	if len(change.Owners) > 0 {
		change.Owners = append(change.Owners, vnidOwner(nn.GetNetid()))
		if known {
			change.Owners = append(change.Owners, vnidOwner(was))
		}
	}
	change.Owners = union(change.Owners, before, s.egressIn(name), s.multicastIn(name), s.floodChange(flooding), s.servicesIn(name))
	return s.unsettle(change)
}

// DeleteNetNamespace forgets a namespace. Pods that are still in it are
// closed: nobody can say any more whose they are. So are its services, for tenants.
func (s *State) DeleteNetNamespace(name string) Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	vnid, known := s.namespaces[name]
	if !known {
		return Change{}
	}
	before, flooding := union(s.egressIn(name), s.multicastIn(name)), s.flooding()
	delete(s.namespaces, name)
	delete(s.multicast, name)
	logs := s.setLogging(&tenancyv1.NetNamespace{Name: name})
	delete(s.revisions, Object{KindNetNamespace, name})
	change := Change{Policies: logs}
	for owner, pod := range s.pods {
		if pod.Namespace == name {
			s.leave(vnid)
			change.Owners = append(change.Owners, owner)
		}
	}
	if len(change.Owners) > 0 {
		change.Owners = append(change.Owners, vnidOwner(vnid))
	}
	change.Owners = union(change.Owners, before, s.floodChange(flooding), s.servicesIn(name))
	return s.unsettle(change)
}

// leave takes one pod off a VNID. The caller holds the lock.
func (s *State) leave(vnid uint32) {
	if s.users[vnid]--; s.users[vnid] <= 0 {
		delete(s.users, vnid)
	}
}

// AddPod takes a pod, new or changed. It stays closed while the VNID of its
// namespace is not known and, where policies decide, while those that apply to it
// are not in force.
func (s *State) AddPod(p Pod) Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	owner := p.Owner()
	change := Change{Owners: []string{owner}, Objects: []Object{p.object()}}
	vnid, known := s.namespaces[p.Namespace]
	flooding := s.flooding()
	if _, had := s.pods[owner]; !had && known {
		s.users[vnid]++
	}
	s.pods[owner] = p
	if known {
		change.Owners = append(change.Owners, vnidOwner(vnid))
		change.Owners = append(change.Owners, s.egressOf(vnid)...)
		change.Owners = append(change.Owners, s.multicastIn(p.Namespace)...)
		change.Owners = append(change.Owners, s.floodChange(flooding)...)
		if s.firewalls.numbers[p.Namespace] != pipeline.NoFirewall {
			change.Owners = append(change.Owners, firewallOwner(p.Namespace))
		}
	}
	s.aim(p.Namespace, p.Name)
	return change.with(s.policyChange())
}

// RemovePod forgets a pod. Forgetting an unknown one changes nothing.
func (s *State) RemovePod(p Pod) Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	owner := p.Owner()
	if _, had := s.pods[owner]; !had {
		return Change{}
	}
	flooding := s.flooding()
	delete(s.pods, owner)
	change := Change{Owners: []string{owner}}
	if vnid, known := s.namespaces[p.Namespace]; known {
		s.leave(vnid)
		change.Owners = append(change.Owners, vnidOwner(vnid))
		if egress := s.egressOf(vnid); len(egress) > 0 {
			change.Owners = append(change.Owners, egress...)
			change = s.unsettle(change)
		}
		change.Owners = append(change.Owners, s.multicastIn(p.Namespace)...)
		change.Owners = append(change.Owners, s.floodChange(flooding)...)
	}
	delete(s.policies.open, owner)
	s.aim(p.Namespace, p.Name)
	if s.mode.Policies() {
		// What its policies forbid is forgotten now: not before it is closed.
		change.Owners = append(change.Owners, outsideOwner+owner)
		change = s.unsettle(change)
	}
	return change.with(s.policyChange())
}

// HasPod says whether a pod is in the state.
func (s *State) HasPod(p Pod) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, has := s.pods[p.Owner()]
	return has
}

// Open says whether a pod has flows at all. One without a known VNID, or with
// an address or port that would break isolation, stays closed.
func (s *State) Open(p Pod) bool { return len(s.compile(p.Owner())) > 0 }

// Pods answers the local pods, by owner.
func (s *State) Pods() []Pod {
	s.mu.RLock()
	defer s.mu.RUnlock()
	pods := make([]Pod, 0, len(s.pods))
	for _, p := range s.pods {
		pods = append(pods, p)
	}
	slices.SortFunc(pods, func(a, b Pod) int { return strings.Compare(a.Owner(), b.Owner()) })
	return pods
}

// VNID answers the VNID of a namespace that this node follows.
func (s *State) VNID(namespace string) (uint32, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	vnid, ok := s.namespaces[namespace]
	return vnid, ok
}

// AwaitVNID answers the VNID of a namespace as soon as it is known.
func (s *State) AwaitVNID(ctx context.Context, namespace string) (uint32, error) {
	for {
		s.mu.RLock()
		vnid, known := s.namespaces[namespace]
		changed := s.changed
		s.mu.RUnlock()
		if known {
			return vnid, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, fmt.Errorf("wait for the VNID of namespace %s: %w", namespace, ctx.Err())
		}
	}
}
