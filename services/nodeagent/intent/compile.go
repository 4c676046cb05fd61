package intent

import (
	"strconv"
	"strings"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// compile answers the flows that a fragment should have now; none when its
// owner is gone, or when nothing can be said yet. It is pure: the same state
// gives the same flows.
func (s *State) compile(owner string) []openflow.Flow {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.compileLocked(owner)
}

func (s *State) compileLocked(owner string) []openflow.Flow {
	if s.network == nil || s.own == nil || !s.modeKnown {
		return nil
	}
	node := s.node()
	if owner == baseOwner {
		return pipeline.Base(node).Flows
	}
	if pod, ok := s.pods[owner]; ok {
		vnid, known := s.namespaces[pod.Namespace]
		if !known || s.closedByPolicies(pod) {
			return nil
		}
		compiled := pipelinePod(pod, vnid)
		compiled.Inside, compiled.ByEgressIP = s.leaving(pod)
		compiled.Firewall = s.firewall(pod.Namespace)
		compiled.Resolvers = s.resolvers(pod.Namespace)
		return pipeline.PodFragment(node, compiled).Flows
	}
	if name, ok := strings.CutPrefix(owner, hostSubnetOwner("")); ok {
		remote, there := s.remotes[name]
		if !there {
			return nil
		}
		return pipeline.RemoteFragment(node, remote).Flows
	}
	if service, ok := s.services.of(owner); ok {
		return s.compileService(node, service)
	}
	if vnid, ok := numberIn(owner, egressOwnerPrefix); ok {
		return s.compileEgress(node, vnid)
	}
	if vnid, ok := numberIn(owner, multicastOwnerPrefix); ok {
		return s.compileMulticast(node, vnid)
	}
	if part, ok := numberIn(owner, partOwnerPrefix); ok {
		return s.compilePart(node, int(part))
	}
	if flows, ok := s.compilePolicies(owner); ok {
		return flows
	}
	if namespace, ok := FirewallOf(owner); ok {
		return s.firewallFlows(namespace)
	}
	if text, ok := strings.CutPrefix(owner, "vnid "); ok {
		vnid, err := strconv.ParseUint(text, 10, 32)
		if err != nil || s.users[uint32(vnid)] == 0 {
			return nil
		}
		return pipeline.TenantFragment(node, uint32(vnid)).Flows
	}
	return nil
}

// pipelinePod is a pod as the pipeline has it.
func pipelinePod(pod Pod, vnid uint32) pipeline.Pod {
	return pipeline.Pod{Namespace: pod.Namespace, Name: pod.Name, IP: pod.IP, Port: pod.Port, VNID: vnid}
}

func (s *State) compileService(node pipeline.Node, service Service) []openflow.Flow {
	vnid, known := s.namespaces[service.Namespace]
	if !known {
		vnid = pipeline.UnknownVNID
	}
	return pipeline.ServiceFragment(node, pipeline.Service{
		Namespace: service.Namespace, Name: service.Name, VNID: vnid,
		ClusterIPs: service.ClusterIPs, Ports: service.Ports, NodePorts: service.NodePorts,
	}).Flows
}

// CompileAll answers every fragment that should be, by owner: what a switch
// that knows nothing needs.
func (s *State) CompileAll() map[string][]openflow.Flow {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.compileAll()
}

func (s *State) compileAll() map[string][]openflow.Flow {
	owners := []string{baseOwner}
	for owner := range s.pods {
		owners = append(owners, owner)
	}
	for name := range s.remotes {
		owners = append(owners, hostSubnetOwner(name))
	}
	for owner := range s.services.all {
		owners = append(owners, owner)
	}
	for vnid := range s.users {
		owners = append(owners, vnidOwner(vnid))
		owners = append(owners, s.egressOf(vnid)...)
		owners = append(owners, s.multicastOf(vnid)...)
	}
	owners = append(owners, partOwners()...)
	for _, h := range s.egress.hosted {
		owners = append(owners, egressOwner(h.vnid))
	}
	owners = append(owners, s.policyOwners()...)
	for namespace := range s.firewalls.namespaces {
		owners = append(owners, firewallOwner(namespace))
	}
	all := make(map[string][]openflow.Flow, len(owners))
	for _, owner := range owners {
		if flows := s.compileLocked(owner); len(flows) > 0 {
			all[owner] = flows
		}
	}
	return all
}
