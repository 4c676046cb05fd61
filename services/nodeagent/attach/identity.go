package attach

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/bridge"
	"github.com/damask-sdn/damask/services/nodeagent/lease"
)

// Keys of a pod's port in Interface.external_ids. `sandbox` and `ip` are what
// OpenShift SDN wrote too, and what operators search for. Together they say the
// whole attachment, so that running pods survive the loss of the lease store.
const (
	idSandbox   = "sandbox"
	idIP        = "ip"
	idSubnet    = "subnet"
	idNamespace = "ns"
	idName      = "name"
	idIfname    = "ifname"
	idNetns     = "netns"
	idHostPorts = "hostports" // only of pods that have some
	// idAnnotations is there for egress routers only.
	idAnnotations = "annotations"
	idBandwidth   = "bandwidth" // only of pods that are bound
)

// externalIDs are what a pod's port is marked with.
func externalIDs(a *cniv1.Attachment) map[string]string {
	p := prefixOf(a)
	ids := map[string]string{
		idSandbox:   a.GetContainerId(),
		idIP:        p.Addr().String(),
		idSubnet:    p.Masked().String(),
		idNamespace: a.GetPodNamespace(),
		idName:      a.GetPodName(),
		idIfname:    a.GetIfname(),
		idNetns:     a.GetNetns(),
	}
	if len(a.GetHostPorts()) > 0 {
		ids[idHostPorts] = hostPortsText(a.GetHostPorts())
	}
	if len(a.GetAnnotations()) > 0 {
		text, _ := json.Marshal(a.GetAnnotations()) // A map of strings always can be.
		ids[idAnnotations] = string(text)
	}
	if a.GetBandwidth() != nil {
		ids[idBandwidth] = bandwidthText(a.GetBandwidth())
	}
	return ids
}

// portOf is the port that a pod should have.
func portOf(a *cniv1.Attachment) bridge.Port {
	return bridge.Port{Name: a.GetHostVeth(), OFPort: a.GetOfport(), ExternalIDs: externalIDs(a)}
}

// isPod says whether a port of the bridge is a pod's.
func isPod(p bridge.Port) bool { return p.ExternalIDs[idSandbox] != "" }

// keyOf is the attachment that a pod's port belongs to.
func keyOf(p bridge.Port) lease.Key {
	return lease.Key{ContainerID: p.ExternalIDs[idSandbox], Ifname: p.ExternalIDs[idIfname]}
}

// attachmentOf is the attachment that a port's marks tell of. Labels and the
// ports of containers are not among them.
func attachmentOf(p bridge.Port) (*cniv1.Attachment, error) {
	ids := p.ExternalIDs
	for _, key := range []string{idSandbox, idIfname, idNetns, idNamespace, idName} {
		if ids[key] == "" {
			return nil, fmt.Errorf("port %s: external_ids:%s is missing", p.Name, key)
		}
	}
	address, err := netip.ParseAddr(ids[idIP])
	if err != nil || !address.Is4() {
		return nil, fmt.Errorf("port %s: external_ids:%s %q is not an IPv4 address", p.Name, idIP, ids[idIP])
	}
	subnet, err := netip.ParsePrefix(ids[idSubnet])
	if err != nil || !subnet.Contains(address) {
		return nil, fmt.Errorf("port %s: external_ids:%s %q is not the subnet of %s", p.Name, idSubnet, ids[idSubnet], address)
	}
	hostPorts, err := parseHostPorts(ids[idHostPorts])
	if err != nil {
		return nil, fmt.Errorf("port %s: external_ids:%s: %w", p.Name, idHostPorts, err)
	}
	if p.OFPort < lease.FirstPort || p.OFPort > lease.LastPort {
		return nil, errors.New("port " + p.Name + " has no OpenFlow port number")
	}
	var annotations map[string]string
	if text := ids[idAnnotations]; text != "" {
		if err := json.Unmarshal([]byte(text), &annotations); err != nil {
			return nil, fmt.Errorf("port %s: external_ids:%s: %w", p.Name, idAnnotations, err)
		}
	}
	bandwidth, err := parseBandwidth(ids[idBandwidth])
	if err != nil {
		return nil, fmt.Errorf("port %s: external_ids:%s: %w", p.Name, idBandwidth, err)
	}
	return &cniv1.Attachment{
		Annotations: annotations, Bandwidth: bandwidth,
		ContainerId: ids[idSandbox], Ifname: ids[idIfname], Netns: ids[idNetns],
		PodNamespace: ids[idNamespace], PodName: ids[idName],
		Ips:      []string{netip.PrefixFrom(address, subnet.Bits()).String()},
		Mac:      lease.HardwareAddr(address).String(),
		HostVeth: p.Name, Ofport: p.OFPort, HostPorts: hostPorts,
	}, nil
}

// prefixOf is the pod's address with the prefix length of its subnet. The lease
// store holds no attachment without one.
func prefixOf(a *cniv1.Attachment) netip.Prefix {
	if len(a.GetIps()) == 0 {
		return netip.Prefix{}
	}
	p, err := netip.ParsePrefix(a.GetIps()[0])
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// gatewayOf is the address of tun0 as this pod knows it: the first of its subnet.
func gatewayOf(a *cniv1.Attachment) netip.Addr { return prefixOf(a).Masked().Addr().Next() }
