package allocation_test

import (
	"fmt"
	"net/netip"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/token"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
)

// audit reads a bucket's raw keys and answers what breaks the promises: two
// owners, overlapping subnets, claims without a HostSubnet, or the reverse.
func audit(entries []bucket.Entry, _ uint64) error {
	var problems []string
	claims, hostIPs := map[string]string{}, map[string]string{}
	var hostSubnets []*ipamv1.HostSubnet
	for _, e := range entries {
		kind, rest, _ := strings.Cut(e.Key, ".")
		name, err := token.Decode(rest)
		if err != nil {
			return err
		}
		switch kind {
		case "claim":
			if len(e.Value) > 0 {
				claims[name] = string(e.Value)
			}
		case "hostip":
			hostIPs[name] = string(e.Value)
		case "hostsubnet":
			var h ipamv1.HostSubnet
			if err := proto.Unmarshal(e.Value, &h); err != nil {
				return err
			}
			hostSubnets = append(hostSubnets, &h)
		}
	}
	owned := 0
	var seen []netip.Prefix
	for _, h := range hostSubnets {
		for _, s := range h.GetSubnets() {
			owned++
			if claims[s] != h.GetName() {
				problems = append(problems, fmt.Sprintf("%s has %s, which is claimed by %q", h.GetName(), s, claims[s]))
			}
			p := netip.MustParsePrefix(s)
			for _, other := range seen {
				if p.Overlaps(other) {
					problems = append(problems, fmt.Sprintf("%s overlaps %s", p, other))
				}
			}
			seen = append(seen, p)
		}
		for _, ip := range h.GetHostIps() {
			if hostIPs[ip] != h.GetName() {
				problems = append(problems, fmt.Sprintf("%s has %s, which is claimed by %q", h.GetName(), ip, hostIPs[ip]))
			}
		}
	}
	if len(claims) != owned {
		problems = append(problems, fmt.Sprintf("%d claims for %d subnets", len(claims), owned))
	}
	if len(hostIPs) != len(hostSubnets) {
		problems = append(problems, fmt.Sprintf("%d claims of host IPs for %d nodes", len(hostIPs), len(hostSubnets)))
	}
	if problems != nil {
		return fmt.Errorf("%s", strings.Join(problems, "; "))
	}
	return nil
}
