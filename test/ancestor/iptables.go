package ancestor

import (
	"context"
	"fmt"
	"strings"
)

// masquerade writes the chains and the jumps to them, each on top of what is there. An
// underline stands for a blank inside of a word.
func (n *node) masquerade(ctx context.Context) error {
	cc := n.ClusterNetwork.String()
	port := fmt.Sprint(n.VXLANPort)
	for _, line := range []string{
		"raw -N OPENSHIFT-NOTRACK",
		"raw -A OPENSHIFT-NOTRACK -p udp --dport " + port + " -j NOTRACK",
		"raw -I OUTPUT -m comment --comment disable_conntrack_for_vxlan -j OPENSHIFT-NOTRACK",
		"raw -I PREROUTING -m comment --comment disable_conntrack_for_vxlan -j OPENSHIFT-NOTRACK",
		"nat -N OPENSHIFT-MASQUERADE",
		"nat -N OPENSHIFT-MASQUERADE-2",
		"nat -A OPENSHIFT-MASQUERADE-2 -d " + cc + " -m comment --comment pod-to-pod_traffic -j RETURN",
		"nat -A OPENSHIFT-MASQUERADE-2 -m comment --comment masquerade_pod-to-service_and_pod-to-external_traffic -j MASQUERADE",
		"nat -A OPENSHIFT-MASQUERADE -m mark --mark 0x1/0x1 -j RETURN",
		"nat -A OPENSHIFT-MASQUERADE -s " + cc + " -j OPENSHIFT-MASQUERADE-2",
		"nat -I POSTROUTING -m comment --comment rules_for_masquerading_OpenShift_traffic -j OPENSHIFT-MASQUERADE",
		"filter -N OPENSHIFT-FIREWALL-ALLOW",
		"filter -A OPENSHIFT-FIREWALL-ALLOW -p udp --dport " + port + " -m comment --comment VXLAN_incoming -j ACCEPT",
		"filter -A OPENSHIFT-FIREWALL-ALLOW -i tun0 -m comment --comment from_SDN_to_localhost -j ACCEPT",
		"filter -I INPUT -m comment --comment firewall_overrides -j OPENSHIFT-FIREWALL-ALLOW",
		"filter -N OPENSHIFT-BLOCK-OUTPUT",
		"filter -A OPENSHIFT-BLOCK-OUTPUT -p tcp --dport 22623 --syn -j REJECT",
		"filter -A OPENSHIFT-BLOCK-OUTPUT -p tcp --dport 22624 --syn -j REJECT",
		"filter -I OUTPUT -m comment --comment block_output -j OPENSHIFT-BLOCK-OUTPUT",
		"filter -I FORWARD -m comment --comment block_output -j OPENSHIFT-BLOCK-OUTPUT",
		"filter -N OPENSHIFT-FIREWALL-FORWARD",
		"filter -A OPENSHIFT-FIREWALL-FORWARD -s " + cc + " -m comment --comment attempted_resend_after_connection_close -m conntrack --ctstate INVALID -j DROP",
		"filter -A OPENSHIFT-FIREWALL-FORWARD -d " + cc + " -m comment --comment forward_traffic_from_SDN -j ACCEPT",
		"filter -A OPENSHIFT-FIREWALL-FORWARD -s " + cc + " -m comment --comment forward_traffic_to_SDN -j ACCEPT",
		"filter -I FORWARD -m comment --comment firewall_overrides -j OPENSHIFT-FIREWALL-FORWARD",
		"filter -N OPENSHIFT-ADMIN-OUTPUT-RULES",
		"filter -I FORWARD -i tun0 ! -o tun0 -m comment --comment administrator_overrides -j OPENSHIFT-ADMIN-OUTPUT-RULES",
		"mangle -N OPENSHIFT-SDN-CANARY",
		"nat -N OPENSHIFT-SDN-CANARY",
		"filter -N OPENSHIFT-SDN-CANARY",
	} {
		args := []string{"-w", "5", "-t"}
		for _, word := range strings.Fields(line) {
			args = append(args, strings.ReplaceAll(word, "_", " "))
		}
		if _, err := command(ctx, "", "iptables", args...); err != nil {
			return err
		}
	}
	return nil
}
