package attach

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/bridge"
	"github.com/damask-sdn/damask/services/nodeagent/lease"
)

// predecessor knows the pods that OpenShift SDN attached to this node.
type predecessor interface {
	// Pod answers who a sandbox of that address is, as the container runtime noted it:
	// interface, network namespace, pod and host ports.
	Pod(sandbox string, address netip.Addr) (*cniv1.Attachment, error)
}

// isInherited says whether a port is a pod's that OpenShift SDN attached: it marked ports
// with the sandbox and the address, and nothing else.
func isInherited(p bridge.Port) bool {
	_, ours := p.ExternalIDs[idSubnet]
	return isPod(p) && p.ExternalIDs[idIP] != "" && !ours
}

// isLost says whether a port's device is gone, and the pod with it.
func isLost(p bridge.Port) bool { return p.Error != "" || p.OFPort == 0 }

// Recognise tells which pods that OpenShift SDN attached cannot be taken over, and why,
// all of them in one error. It changes nothing. It comes before anything of the node is
// changed: as long as somebody is not known, the node stays as it was.
func (s *Server) Recognise(ctx context.Context) error {
	all, err := s.Ports.Ports(ctx)
	if err != nil {
		return fmt.Errorf("look for pods that OpenShift SDN attached: %w", err)
	}
	var errs []error
	for _, p := range all {
		if !isInherited(p) || isLost(p) {
			continue
		}
		if _, err := s.inheritanceOf(p); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// inherit gives ports that OpenShift SDN made a lease each: their cable, address and
// number stay, and they are ports like others from here on. What has a lease already is
// one that a start before this one had got to.
func (s *Server) inherit(ports []bridge.Port) error {
	var errs []error
	for _, p := range ports {
		a, err := s.inheritanceOf(p)
		if err == nil {
			err = s.Leases.Adopt(a)
		}
		l, _ := s.Leases.Lookup(lease.KeyOf(a))
		switch {
		case errors.Is(err, lease.ErrExists) && l.Attachment.GetHostVeth() == p.Name:
		case err != nil:
			errs = append(errs, fmt.Errorf("take over port %s: %w", p.Name, err))
			continue
		default:
			s.log.Info("pod taken over from OpenShift SDN", "namespace", a.GetPodNamespace(), "pod", a.GetPodName(),
				"ip", a.GetIps()[0], "port", p.Name, "ofport", a.GetOfport())
		}
		s.inherited = append(s.inherited, a)
	}
	return errors.Join(errs...)
}

// Inherited are the pods that Restore has taken over from OpenShift SDN.
func (s *Server) Inherited() []*cniv1.Attachment { return slices.Clone(s.inherited) }

// inheritanceOf is the attachment that a port of OpenShift SDN's is.
func (s *Server) inheritanceOf(p bridge.Port) (*cniv1.Attachment, error) {
	refuse := func(format string, args ...any) (*cniv1.Attachment, error) {
		return nil, fmt.Errorf("port %s of sandbox %s: %w", p.Name, p.ExternalIDs[idSandbox], fmt.Errorf(format, args...))
	}
	address, err := netip.ParseAddr(p.ExternalIDs[idIP])
	if err != nil || !address.Is4() {
		return refuse("external_ids:%s %q is not an IPv4 address", idIP, p.ExternalIDs[idIP])
	}
	network, _ := s.Site.Network()
	if !network.Subnet.IsValid() || !network.Subnet.Contains(address) {
		return refuse("%s is not an address of this node's subnet %s", address, network.Subnet)
	}
	if p.OFPort < lease.FirstPort || p.OFPort > lease.LastPort {
		return refuse("its OpenFlow number %d is not %d to %d", p.OFPort, lease.FirstPort, lease.LastPort)
	}
	if s.Predecessor == nil {
		return refuse("nobody knows which pod it is")
	}
	a, err := s.Predecessor.Pod(p.ExternalIDs[idSandbox], address)
	if err != nil {
		return refuse("%w", err)
	}
	var f faults
	f.key(a.GetContainerId(), a.GetIfname())
	f.hostPorts(a.GetHostPorts())
	if err := errors.Join(f.err(), checkNetns(a.GetNetns())); err != nil {
		return refuse("%w", err)
	}
	a.Ips = []string{netip.PrefixFrom(address, network.Subnet.Bits()).String()}
	a.Mac = lease.HardwareAddr(address).String()
	a.HostVeth, a.Ofport = p.Name, p.OFPort
	return a, nil
}
