package link

import (
	"bytes"
	"fmt"
	"os"
)

// A setting is one of the kernel's, in a network namespace.
type setting struct {
	name string // As sysctl(8) writes it.
	path string
	want string
}

// settings are those that the node needs to be its pods' router. What pods send to
// services the kernel leads back out of the device that it came in by, and so would
// tell them, by ICMP redirect, to leave it out. Those of translated connections it makes
// and then drops, at a cost for each packet; others reach the pod. Redirects are on if
// either "all" or the device says so. Other devices keep what they have of their own.
func settings(device string) []setting {
	return []setting{
		{"net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward", "1"},
		{"net.ipv4.conf.all.send_redirects", "/proc/sys/net/ipv4/conf/all/send_redirects", "0"},
		{"net.ipv4.conf." + device + ".send_redirects", "/proc/sys/net/ipv4/conf/" + device + "/send_redirects", "0"},
	}
}

// compareSettings makes sure that the kernel's settings in a namespace are these.
func compareSettings(namespace *os.File, all []setting, found *differences) error {
	for _, s := range all {
		var value []byte
		err := within(namespace, func() (err error) {
			value, err = os.ReadFile(s.path)
			return err
		})
		if err != nil {
			return fmt.Errorf("read %s: %w", s.name, err)
		}
		if value = bytes.TrimSpace(value); string(value) == s.want {
			continue
		}
		found.add(func() error {
			return within(namespace, func() error { return os.WriteFile(s.path, []byte(s.want), 0) })
		}, "%s: is %s, should be %s", s.name, value, s.want)
	}
	return nil
}
