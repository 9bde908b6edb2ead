"""What answers become: tables, pages, sorted folders, and the formats of camera-trap and biodiversity tools."""
