# SPDX-License-Identifier: MIT
# fish completion for thawctl(1)

function __thawctl_vms
    thawctl list --no-legend --no-pager --no-ask-password 2>/dev/null | string split -f 1 ' '
end

function __thawctl_images
    thawctl image list --no-legend --no-pager 2>/dev/null | string split -f 1 ' '
end

function __thawctl_jobs
    thawctl jobs --no-legend --no-pager --no-ask-password 2>/dev/null | string trim | string split -f 1 ' '
end

set -l verbs restore stop list jobs sessions status cancel policy pause resume doctor image
set -l image_verbs import seal verify list show rm clean
set -l no_verb "not __fish_seen_subcommand_from $verbs"
set -l in_image "__fish_seen_subcommand_from image; and not __fish_seen_subcommand_from $image_verbs"

complete -c thawctl -f
complete -c thawctl -l json -x -a 'short pretty off' -d 'Print JSON'
complete -c thawctl -l no-pager -d 'Do not use a pager'
complete -c thawctl -l no-legend -d 'No headers and no closing lines'
complete -c thawctl -l no-ask-password -d 'Never ask for a password'
complete -c thawctl -l image-root -r -F -d 'Folder of the images'
complete -c thawctl -l version -d 'Print the version'
complete -c thawctl -s h -l help -d 'Print help'

complete -c thawctl -n "$no_verb" -a restore -d 'Restore a VM from an image'
complete -c thawctl -n "$no_verb" -a stop -d 'Stop a VM'
complete -c thawctl -n "$no_verb" -a list -d 'List VMs'
complete -c thawctl -n "$no_verb" -a jobs -d 'List jobs at work'
complete -c thawctl -n "$no_verb" -a sessions -d 'List pager sessions'
complete -c thawctl -n "$no_verb" -a status -d 'Show one VM, or the daemons'
complete -c thawctl -n "$no_verb" -a cancel -d 'Cancel a job'
complete -c thawctl -n "$no_verb" -a policy -d 'Show or change the circuit breakers'
complete -c thawctl -n "$no_verb" -a pause -d 'Pause a running VM'
complete -c thawctl -n "$no_verb" -a resume -d 'Let a paused VM run again'
complete -c thawctl -n "$no_verb" -a doctor -d 'Check this host'
complete -c thawctl -n "$no_verb" -a image -d 'Manage images'

set -l restore '__fish_seen_subcommand_from restore'
complete -c thawctl -n "$restore" -a '(__thawctl_images)' -d Image
complete -c thawctl -n "$restore" -l from-config -d "Take image and options from the VM's file"
complete -c thawctl -n "$restore" -l memory-backend -x -a 'auto uffd file' -d 'How memory is loaded'
complete -c thawctl -n "$restore" -l prefetch -x -a 'yes no' -d 'Load pages ahead'
complete -c thawctl -n "$restore" -l load-timeout -x -d 'Limit for loading'
complete -c thawctl -n "$restore" -l network-override -x -d 'IFACE=DEV'
complete -c thawctl -n '__fish_seen_subcommand_from restore stop' -l no-block -d 'Only queue the job'
complete -c thawctl -n '__fish_seen_subcommand_from stop' -l ignore-missing -d 'Succeed without such a VM'
complete -c thawctl -n '__fish_seen_subcommand_from stop status pause resume' -a '(__thawctl_vms)' -d VM
complete -c thawctl -n '__fish_seen_subcommand_from cancel' -a '(__thawctl_jobs)' -d Job
complete -c thawctl -n '__fish_seen_subcommand_from policy' -a 'MemoryBackend Prefetch Recording'

complete -c thawctl -n "$in_image" -a import -d 'Make an image of a snapshot'
complete -c thawctl -n "$in_image" -a seal -d 'Seal files that are in place'
complete -c thawctl -n "$in_image" -a verify -d 'Compare all checksums'
complete -c thawctl -n "$in_image" -a list -d 'List images'
complete -c thawctl -n "$in_image" -a show -d 'Show one image'
complete -c thawctl -n "$in_image" -a rm -d 'Remove an image'
complete -c thawctl -n "$in_image" -a clean -d 'Remove what crashes left'
set -l settings '__fish_seen_subcommand_from import seal'
complete -c thawctl -n "$settings" -l state -r -F -d 'State file'
complete -c thawctl -n "$settings" -l memory -r -F -d 'Memory file'
complete -c thawctl -n "$settings" -l page-size -x -a '4K 2M' -d 'Page size on the host'
complete -c thawctl -n "$settings" -l vmm -x -d 'VMM that wrote the snapshot'
complete -c thawctl -n "$settings" -l vmm-version -x -d 'Its version'
complete -c thawctl -n "$settings" -l drive -x -d 'ID=PATH[:ro][:shared]'
complete -c thawctl -n "$settings" -l vsock -r -F -d 'Path of the vsock socket'
complete -c thawctl -n '__fish_seen_subcommand_from import' -l move -d 'Take the files'
complete -c thawctl -n '__fish_seen_subcommand_from rm' -l force -d 'Also when in use'
complete -c thawctl -n '__fish_seen_subcommand_from verify show rm' -a '(__thawctl_images)' -d Image
