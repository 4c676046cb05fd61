package intent

import (
	"hash/fnv"
	"net/netip"
	"strconv"
	"strings"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// Multicast is enabled by namespace, and exchanged within a VNID: a pod sends and
// receives if its own namespace has it enabled, whoever shares the VNID. A node knows the
// namespaces of its own pods and no others, so a rule about all namespaces of a VNID could
// not be kept here.

const (
	multicastOwnerPrefix = "multicast vnid "
	partOwnerPrefix      = "multicast part "
)

// setMulticast takes whether a namespace has multicast enabled. The caller holds the lock.
func (s *State) setMulticast(namespace string, enabled bool) {
	if enabled {
		s.multicast[namespace] = true
	} else {
		delete(s.multicast, namespace)
	}
}

// multicastOf is the owner of a VNID's multicast.
func (s *State) multicastOf(vnid uint32) []string {
	return []string{multicastOwnerPrefix + strconv.FormatUint(uint64(vnid), 10)}
}

// multicastIn is the owner of a namespace's multicast, if it has it enabled. The caller
// holds the lock.
func (s *State) multicastIn(namespace string) []string {
	vnid, known := s.namespaces[namespace]
	if !known || !s.multicast[namespace] {
		return nil
	}
	return s.multicastOf(vnid)
}

// flooding says whether some pod here may send multicast, so that the other nodes must
// be known to the switch for that. The caller holds the lock.
func (s *State) flooding() bool {
	if len(s.multicast) == 0 {
		return false
	}
	for _, pod := range s.pods {
		if s.multicast[pod.Namespace] {
			return true
		}
	}
	return false
}

// floodChange are the owners of all nodes' parts when they come or go. The caller holds
// the lock.
func (s *State) floodChange(was bool) []string {
	if was == s.flooding() {
		return nil
	}
	return partOwners()
}

// ownersOfNode are the owners of another node's flows. The caller holds the lock.
func (s *State) ownersOfNode(name string) []string {
	owners := []string{hostSubnetOwner(name)}
	if s.flooding() {
		owners = append(owners, partOwnerPrefix+strconv.Itoa(partOf(name)))
	}
	return owners
}

func partOwners() []string {
	owners := make([]string, pipeline.MulticastParts)
	for part := range owners {
		owners[part] = partOwnerPrefix + strconv.Itoa(part)
	}
	return owners
}

// partOf is the part of a node. It follows from the name alone, so that a node does not
// change its part when others come and go.
func partOf(node string) int {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(node))
	return int(hash.Sum32() % pipeline.MulticastParts)
}

// compileMulticast answers who exchanges multicast in a VNID. The caller holds the lock.
func (s *State) compileMulticast(node pipeline.Node, vnid uint32) []openflow.Flow {
	m := pipeline.Multicast{VNID: vnid}
	for _, pod := range s.pods {
		if of, known := s.namespaces[pod.Namespace]; known && of == vnid && s.multicast[pod.Namespace] {
			m.Pods = append(m.Pods, pipelinePod(pod, vnid))
		}
	}
	return pipeline.MulticastFragment(node, m).Flows
}

// compilePart answers the nodes of a part. The caller holds the lock.
func (s *State) compilePart(node pipeline.Node, part int) []openflow.Flow {
	if !s.flooding() {
		return nil
	}
	var nodes []netip.Addr
	for name, remote := range s.remotes {
		if partOf(name) == part {
			nodes = append(nodes, remote.HostIP)
		}
	}
	return pipeline.MulticastPartFragment(node, part, nodes).Flows
}

// numberIn reads the number after a prefix of an owner's name.
func numberIn(owner, prefix string) (uint32, bool) {
	text, ok := strings.CutPrefix(owner, prefix)
	if !ok {
		return 0, false
	}
	number, err := strconv.ParseUint(text, 10, 32)
	return uint32(number), err == nil
}
