package link

import (
	"crypto/sha256"
	"encoding/hex"
)

// HostVeth makes a name of a test's choice fit a device.
func HostVeth(containerID, ifname string) string {
	sum := sha256.Sum256([]byte(containerID + "/" + ifname))
	return "veth" + hex.EncodeToString(sum[:4])
}
