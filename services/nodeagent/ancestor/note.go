package ancestor

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
)

// noteKind is libcni's name for the form of its notes.
const noteKind = "cniCacheV1"

// note is what libcni writes after an ADD. Its type is not exported; the fields are
// those of its release 0.8, which brought the form, and of all since.
type note struct {
	Kind           string      `json:"kind"`
	ContainerID    string      `json:"containerId"`
	Ifname         string      `json:"ifName"`
	Netns          string      `json:"netns"` // since 1.2
	Args           [][2]string `json:"cniArgs"`
	CapabilityArgs struct {
		PortMappings []portMapping `json:"portMappings"`
	} `json:"capabilityArgs"`
	Result struct {
		Interfaces []struct {
			Name    string `json:"name"`
			Sandbox string `json:"sandbox"`
		} `json:"interfaces"`
		IPs []struct {
			Address string `json:"address"`
		} `json:"ips"`
	} `json:"result"`
}

// portMapping is CNI's capability of that name.
type portMapping struct {
	HostPort      uint32 `json:"hostPort"`
	ContainerPort uint32 `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP"`
}

// noted is what a note says.
type noted struct {
	sandbox    string
	addresses  []netip.Addr
	attachment *cniv1.Attachment
}

// parse reads a note. Its error names everything that is missing.
func parse(data []byte) (noted, error) {
	var n note
	if err := json.Unmarshal(data, &n); err != nil {
		return noted{}, fmt.Errorf("not a note of libcni: %w", err)
	}
	if n.Kind != noteKind {
		return noted{}, fmt.Errorf("not a note of libcni: kind %q, want %s", n.Kind, noteKind)
	}
	a := &cniv1.Attachment{ContainerId: n.ContainerID, Ifname: n.Ifname, Netns: n.Netns}
	for _, arg := range n.Args {
		switch arg[0] {
		case "K8S_POD_NAMESPACE":
			a.PodNamespace = arg[1]
		case "K8S_POD_NAME":
			a.PodName = arg[1]
		case "K8S_POD_UID":
			a.PodUid = arg[1]
		}
	}
	for _, i := range n.Result.Interfaces {
		if i.Name == n.Ifname && i.Sandbox != "" {
			a.Netns = i.Sandbox
		}
	}
	found := noted{sandbox: n.ContainerID, attachment: a}
	var problems []error
	for _, ip := range n.Result.IPs {
		p, err := netip.ParsePrefix(ip.Address)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		found.addresses = append(found.addresses, p.Addr())
	}
	for _, field := range []struct{ name, value string }{
		{"containerId", n.ContainerID}, {"ifName", n.Ifname}, {"the network namespace", a.Netns},
		{"K8S_POD_NAMESPACE", a.PodNamespace}, {"K8S_POD_NAME", a.PodName},
	} {
		if field.value == "" {
			problems = append(problems, fmt.Errorf("%s is missing", field.name))
		}
	}
	var err error
	if a.HostPorts, err = hostPorts(n.CapabilityArgs.PortMappings); err != nil {
		problems = append(problems, err)
	}
	return found, errors.Join(problems...)
}

// hostPorts reads the node's ports that lead to the pod. A mapping without a port of the
// node is none; runtimes write such.
func hostPorts(mappings []portMapping) ([]*cniv1.HostPort, error) {
	var ports []*cniv1.HostPort
	for _, m := range mappings {
		if m.HostPort == 0 {
			continue
		}
		protocol, known := cniv1.Protocol_value["PROTOCOL_"+strings.ToUpper(m.Protocol)]
		if m.Protocol == "" {
			protocol, known = int32(cniv1.Protocol_PROTOCOL_TCP), true
		}
		const highest = 65535
		if !known || protocol == 0 || m.HostPort > highest || m.ContainerPort == 0 || m.ContainerPort > highest {
			return nil, fmt.Errorf("host port %d to %d by %q is none", m.HostPort, m.ContainerPort, m.Protocol)
		}
		ports = append(ports, &cniv1.HostPort{HostPort: m.HostPort, ContainerPort: m.ContainerPort, Protocol: cniv1.Protocol(protocol), HostIp: m.HostIP})
	}
	return ports, nil
}
